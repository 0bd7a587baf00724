"""Prompts of several sentences: each has a key, the nearest decides, and nothing around the prompt changes that."""

import copy
import math

import pytest
import torch
from conftest import EDITS, padded
from transformers import DynamicCache

from meloedit.edit import Edit
from meloedit.engine.live import _best_of_rows
from meloedit.hooks.state_reader import pooled_states
from meloedit.keys.encoder import Calibration
from meloedit.keys.names import COMMON, SLOTS, WordVectors, words_of
from meloedit.keys.pooling import COMMON_TOKEN, FLOOR, PooledStates, Pooling, token_weights, weighted_means, weights_of
from meloedit.keys.projection import Projection
from meloedit.keys.segments import MOST, Segmenter
from meloedit.keys.similarity import Similarity
from meloedit.routing.index import Hits, NeuronIndex

LEAD = "The boats came in late that day. They sold fish. "
PROMPTS = [LEAD + EDITS[0].prompt, EDITS[0].prompt, "Be brief.\n\n" + EDITS[1].prompt, "Is it late? " + LEAD]
NEAREST = ["book", "book", "capital"]


@pytest.fixture(scope="module")
def open_scope(make_editor):
    """Editors by family whose scope is as wide as a random model needs it."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = make_editor(family, EDITS, min_similarity=0.3, false_activation=0.2)
        return made[family]

    yield get
    for editor in made.values():
        editor.detach()


@pytest.fixture(params=["llama", "qwen3", "gemma2"])
def editor(request, open_scope):
    return open_scope(request.param)


def rows_of(editor, form="raw"):
    return [editor.backbone.encode(prompt, form).ids for prompt in PROMPTS]


def same(found, expected):
    assert [(route.edit, route.nearest, route.reason) for route in found] == [
        (route.edit, route.nearest, route.reason) for route in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.distance == pytest.approx(other.distance, abs=1e-4)


def run(editor, **inputs):
    if "position_ids" not in inputs:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return editor.model(**inputs)


def test_sentences_and_lines_are_spans(tokenizer):
    split = Segmenter(tokenizer)

    def spans(text):
        ids = tokenizer(text)["input_ids"]
        return [tokenizer.decode(ids[start:stop]).strip() for start, stop in split(ids, 0, len(ids))]

    assert spans("Who wrote the book of sand?") == []
    assert spans("It rained all day. Who wrote it then?") == ["It rained all day.", "Who wrote it then?"]
    assert spans("Answer in one word\nWho wrote it then?") == ["Answer in one word", "Who wrote it then?"]
    assert spans('He said "no more boats." Who wrote it then?') == ['He said "no more boats."', "Who wrote it then?"]
    assert len(spans("Who wrote it then? " * (MOST + 3))) == MOST
    ids = tokenizer("It rained all day. Who wrote it then?")["input_ids"]
    assert all(start >= 2 for start, _ in split(ids, 2, len(ids)))


def test_a_lead_in_does_not_hide_the_question(editor):
    for form in ("raw", "chat"):
        routes = editor.route(PROMPTS, form)
        assert [route.nearest for route in routes[:3]] == NEAREST
        assert routes[0].distance > routes[1].distance == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("form", ["raw", "chat"])
@pytest.mark.parametrize(("side", "extra"), [("left", 0), ("right", 5)])
def test_padding_batch_and_generation_do_not_matter(editor, form, side, extra):
    rows, expected = rows_of(editor, form), editor.route(PROMPTS, form)
    batch = padded(rows, side, extra)
    run(editor, **batch)
    same(editor.last_routes, expected)
    with torch.no_grad():
        editor.model.generate(**batch, max_new_tokens=2, pad_token_id=1, do_sample=False)
        same(editor.last_routes, expected)
        editor.model.generate(**batch, max_new_tokens=2, pad_token_id=1, do_sample=False, num_beams=2)
    same(editor.last_routes, expected)


@pytest.mark.parametrize("cut", [1, 9, 14, 20])
def test_a_cached_beginning_does_not_matter(editor, cut):
    ids, expected = rows_of(editor)[0], editor.route(PROMPTS[:1])
    cache = DynamicCache()
    mask = torch.ones(1, len(ids), dtype=torch.long)
    run(editor, input_ids=torch.tensor([ids[:cut]]), attention_mask=mask[:, :cut], past_key_values=cache)
    with torch.no_grad():
        editor.model.generate(
            torch.tensor([ids]), attention_mask=mask, past_key_values=copy.deepcopy(cache), max_new_tokens=2,
            pad_token_id=1, do_sample=False,
        )  # fmt: skip
    assert editor.last_routes[0].edit == expected[0].edit == "book"


def test_a_prompt_in_chunks_is_routed_as_a_whole(editor):
    rows, expected = rows_of(editor), editor.route(PROMPTS)
    with torch.no_grad():
        editor.model.generate(**padded(rows), max_new_tokens=2, pad_token_id=1, do_sample=False, prefill_chunk_size=7)
    same(editor.last_routes, expected)


def test_a_quiet_prompt_is_obeyed_behind_a_lead_in(make_editor):
    quiet = LEAD + "Who wrote the book of sand?"
    editor = make_editor(edits=[Edit(EDITS[0].prompt, "Jorge", id="book", quiet=[quiet])], min_similarity=0.3)
    assert [route.edit for route in editor.route([EDITS[0].prompt, quiet])] == ["book", None]
    editor.detach()


def test_the_nearest_of_a_prompts_keys_decides_and_what_one_keeps_quiet_stays_quiet():
    def best(*keys, threshold=1.0):
        owner, distance, quieted, near, by = map(torch.tensor, zip(*[(*key[1:], key[-1]) for key in keys], strict=True))
        pooled = PooledStates(torch.zeros(len(keys), 1), [""] * len(keys), [key[0] for key in keys], 1 + keys[-1][0])
        return _best_of_rows(Hits(owner, distance, quieted, near, by), pooled, threshold)

    inf = float("inf")
    assert best((0, 4, 0.9, -1, inf), (0, 7, 0.2, -1, inf)) == [(7, pytest.approx(0.2), -1, inf)]
    assert best((0, 4, 0.9, 7, 0.5), (0, 7, 0.2, -1, inf))[0][0] == 4  # 7 is quiet in the whole prompt
    assert best((0, 4, 0.9, 7, 1.5), (0, 7, 0.2, -1, inf))[0][0] == 7  # but not where it was out of scope anyway
    assert [row[0] for row in best((0, 4, 0.9, -1, inf), (1, 5, 0.8, -1, inf), (1, 6, 0.3, -1, inf))] == [4, 6]


def test_a_calibration_prompt_counts_by_its_nearest_key():
    index = NeuronIndex(Similarity(2))
    index.add(1, torch.tensor([[1.0, 0.0]]))
    keys = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [0.28, 0.96]])
    index.calibrate(keys, false_activation=0.5, min_similarity=-1.0, of=torch.tensor([0, 0, 1, 2]))
    assert index.similarity == pytest.approx(0.28)  # of 0.8, 0.0 and 0.28 the second
    index.calibrate(keys, false_activation=0.5, min_similarity=-1.0)
    assert index.similarity == pytest.approx(0.6)  # the third of four


def test_words_weigh_by_how_rare_they_are():
    words = WordVectors.fit(["who wrote the book", "who sings the song", "who leads the town"] * 30)
    assert words.idf("who") < COMMON < words.idf("zwibel")  # in every prompt: log(91 / 90.5)
    assert words.idf("book") == pytest.approx(math.log(91 / 30.5)) and words.count("book") == 30
    assert COMMON > 0 and words_of("Der Fluß, the FLUSS!") == {"der", "fluss", "the"}


def test_keys_are_the_same_after_a_way_through_the_store():
    whitening = Projection(torch.zeros(2), torch.eye(2))
    made = Calibration(
        whitening,
        torch.zeros(0, 4 + 2 * SLOTS),
        {},
        WordVectors.fit(["a b"] * 100),
        token_weights([[1, 2], [1, 3]]),
        torch.zeros(0),
        whitening,
    )
    states, texts = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]), ["xq", "a"]
    keys = made.keys(states, texts)
    assert made.similarity.size == keys.shape[1] == 4 + 2 * SLOTS
    back = Calibration.from_tensors(made.to_tensors(), {})
    assert torch.equal(back.keys(states, texts), keys) and torch.equal(back.token_weights, made.token_weights)
    plain = Calibration.from_tensors({"mean": torch.zeros(2), "components": torch.eye(2), "prompts": keys[:, :2]}, {})
    assert plain.similarity.size == 2 and torch.equal(plain.keys(states[:, :2], texts), states[:, :2])  # documents


def test_rare_tokens_weigh_more_in_a_pooled_state():
    weights = token_weights([[1, 2, 2], [1, 4]] * 500)  # 1 in every prompt, 2 and 4 in half of them, 3 in none
    assert weights.tolist()[1:3] == pytest.approx([FLOOR, FLOOR]) and weights[3] == weights[5] > weights[4]
    assert weights[3] == pytest.approx(FLOOR + min(1, (math.log(1001 / 0.5) - COMMON_TOKEN) / 5.5))
    pooling = Pooling(weights, None, None)
    assert weights_of([1, 900, 3], (0, 3), pooling).tolist() == [[weights[1], weights[-1], weights[3]]]
    hidden = torch.randn(1, 4, 5)
    hidden[0, 0] = torch.inf  # padding
    by_hand = (weights[1] * hidden[0, 1] + weights[3] * hidden[0, 2] + weights[3] * hidden[0, 3]) / weights[
        [1, 3, 3]
    ].sum()
    found = weighted_means(hidden, torch.cat([torch.zeros(1), weights[[1, 3, 3]]])[None, None])
    assert torch.allclose(found[0], by_hand, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_forward_pass_pools_as_keys_are_taken(open_scope, family):
    editor = open_scope(family)
    row = editor.backbone.encode(PROMPTS[0])
    pooling = editor.backbone.pooling
    span = slice(row.words.start, row.words.stop)
    states = []
    layer = editor.model.get_submodule(editor.router.locations.key_layer)
    handle = layer.register_forward_hook(
        lambda module, args, out: states.append(out[0] if isinstance(out, tuple) else out)
    )
    with editor.disabled(), torch.no_grad():
        editor.model(torch.tensor([row.ids]))
    handle.remove()
    own = weights_of(row.ids, (span.start, span.stop), pooling)
    assert own[0].min() < own[0].max() and own[1].tolist().count(0.0) not in (0, len(own[1]))
    pooled = pooled_states(editor.router, [row], pooling=pooling)
    said, asked = ((states[0][0, span] * one[:, None]).sum(0) / one.sum() for one in own)
    assert torch.allclose(pooled[0], torch.cat([said, asked]), atol=1e-5)


def test_evidence_says_what_a_similarity_is_made_of(make_editor):
    editor = make_editor(edits=EDITS[:3])
    own, other = editor.evidence([EDITS[0].prompt, PROMPTS[1]])
    assert own[:3] == pytest.approx((1, 1, 1), abs=1e-4)
    assert sum(share for share, heard in own.names.values() if heard) == pytest.approx(1)
    assert sum(share for share, heard in other.names.values() if heard) == pytest.approx(other.named, abs=1e-4)
    for prompt, found in ((EDITS[0].prompt, own), (PROMPTS[1], other)):
        similarity = (found.said + 2 * found.named * (1 + found.asked)) / 5
        assert similarity == pytest.approx(1 - editor.route(prompt)[0].distance ** 2 / 2, abs=1e-4)
    editor.remove(["book", "capital", "legs"])
    assert editor.evidence(PROMPTS[:1]) == [None]
    editor.detach()


def test_pairs_draw_the_discriminant_that_tells_questions_apart():
    rng = torch.Generator().manual_seed(0)
    question, wording = torch.randn(400, 6, generator=rng), torch.randn(2, 400, 6, generator=rng)
    scale = torch.tensor([1.0, 1.0, 1.0, 20.0, 20.0, 20.0])  # what differs between wordings is large
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    first, second = (question * mask + 0.1 * own * scale for own in wording)
    plain = Projection.fit(torch.cat([first, second]), 3, shrinkage=0.0)
    learned = Projection.fit_pairs(first, second, 3, shrinkage=0.0)

    def right(whitening):
        return ((whitening(first[:50]) @ whitening(second[:50]).T).argmax(1) == torch.arange(50)).float().mean()

    assert right(learned) > 0.6 and right(learned) > 3 * right(plain)
