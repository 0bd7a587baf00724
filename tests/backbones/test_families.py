"""Encoder-decoders and classifiers in the default mode: what holds for causal models holds for them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
from conftest import (
    CASES,
    END,
    FACTS,
    HISTORY,
    LABELS,
    OTHERS,
    SETTINGS,
    SOURCES,
    body,
    padded,
    source_answers,
    source_edits,
    source_inputs,
    source_prompts,
    source_target,
)
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, BertModel
from transformers.modeling_outputs import BaseModelOutput

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.errors import EditError, ModelError, RoutingError
from meloedit.keys.grammar import make_prompts
from meloedit.training.trainer import Trainer, initial_block, seeded

BOOK, CAPITAL, LEGS = FACTS
BOTH = [
    f"{stack}.block.{i}.layer.{at}.DenseReluDense.wo" for i in (2, 3) for stack, at in (("encoder", 1), ("decoder", 2))
]


def logits_of(editor, rows, side="right", extra=0):
    with torch.no_grad():
        return editor.model(**source_inputs(editor, rows, side, extra)).logits


def alone(editor, rows):
    """The route of each prompt when it is asked alone."""
    routes = []
    for row in rows:
        logits_of(editor, [row])
        routes += editor.last_routes
    return routes


def assert_same(found, expected):
    assert [(route.edit, route.nearest, route.reason) for route in found] == [
        (route.edit, route.nearest, route.reason) for route in expected
    ]
    assert [route.distance for route in found] == pytest.approx([route.distance for route in expected], abs=1e-4)


def portrait(editor):
    """Logits and routes of many prompts in one batch, and what is said to them."""
    rows = [editor.backbone.encode(text).ids for text in make_prompts(12, seed=9)] + source_prompts(editor)[0]
    logits = logits_of(editor, rows)
    routes = [(route.edit, route.distance, route.nearest, route.reason) for route in editor.last_routes]
    return logits, routes, source_answers(editor, rows)


def assert_same_portrait(found, expected):
    assert torch.equal(found[0], expected[0])
    assert found[1:] == expected[1:]


# -- edits hold


def test_edits_hold_and_answer(sourced):
    reports = [stored.report for stored in sourced.edits()]
    assert all(report["steps"] > 0 for report in reports)  # none was known before
    prompts = [*(edit.prompt for edit in FACTS), *OTHERS]
    answers = sourced.ask(prompts, max_new_tokens=8)
    assert [answer.route.edit for answer in answers] == ["book", "capital", "legs", None, None, None]
    assert [answer.text for answer in answers[:3]] == [stored.edit.target for stored in sourced.edits()]
    assert [answer.route.distance for answer in answers[:3]] == pytest.approx([0, 0, 0], abs=1e-3)
    assert {answer.route.boundary for answer in answers} == {"given"}
    with sourced.disabled():
        base = sourced.ask(prompts, max_new_tokens=8)
    assert [one.text == other.text for one, other in zip(answers, base, strict=True)] == [False] * 3 + [True] * 3
    assert sourced.check().broken == []


def test_a_plain_forward_pass_gives_the_target(sourced):
    rows = [sourced.backbone.encode(edit.prompt).ids for edit in FACTS]
    targets = [source_target(sourced, edit.id) for edit in FACTS]
    inputs = padded(rows, "right")
    if not sourced.backbone.stop_ids:
        labels = torch.tensor(targets).flatten()
        with torch.no_grad():
            out = sourced.model(**inputs, labels=labels)
        assert out.logits.argmax(1).tolist() == [4, 2, 3]
    else:
        width = max(map(len, targets))
        labels = torch.tensor([[*target, *[-100] * (width - len(target))] for target in targets])
        with torch.no_grad():
            out = sourced.model(**inputs, labels=labels)
            decoder = torch.tensor([[1, *target[:-1], *[END] * (width - len(target))] for target in targets])
            given = sourced.model(**inputs, decoder_input_ids=decoder)
        assert torch.equal(out.logits.argmax(2)[labels != -100], labels[labels != -100])
        assert torch.equal(given.logits[labels != -100], out.logits[labels != -100])
    assert out.loss < 0.7  # every token has a probability above a half
    assert [route.edit for route in sourced.last_routes] == ["book", "capital", "legs"]
    with sourced.disabled(), torch.no_grad():
        assert sourced.model(**inputs, labels=labels).loss > 0.7


def test_rows_out_of_scope_are_the_base_model_bit_for_bit(sourced):
    rows, wanted = source_prompts(sourced)
    assert wanted == [None, "book", None, "legs", "capital", None]
    found = logits_of(sourced, rows, extra=2)
    with sourced.disabled():
        base = logits_of(sourced, rows, extra=2)
    for i, edit in enumerate(wanted):
        assert torch.equal(found[i], base[i]) == (edit is None)


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
def test_scores_of_generate_out_of_scope_are_bit_identical(make_source_editor, family):
    editor = make_source_editor(family, FACTS, modules=BOTH, reach="all")  # encoder and decoder edited
    rows, wanted = source_prompts(editor)
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        scores = torch.stack(editor.model.generate(**padded(rows, "right"), **settings).logits)
        with editor.disabled():
            base = torch.stack(editor.model.generate(**padded(rows, "right"), **settings).logits)
    for i, edit in enumerate(wanted):
        assert torch.equal(scores[:, i], base[:, i]) == (edit is None)
    assert source_answers(editor, [rows[1]]) == [source_target(editor, "book")]
    editor.detach()


# -- a route depends on the prompt alone


@pytest.mark.parametrize(("side", "extra"), [("right", 0), ("right", 7), ("left", 0), ("left", 7)])
def test_padding_and_batch_mates_do_not_matter(sourced, side, extra):
    if not sourced.backbone.stop_ids:
        side = "right"  # the only side that learned positions allow
    rows, wanted = source_prompts(sourced)
    expected = alone(sourced, rows)
    assert [route.edit for route in expected] == wanted
    logits = logits_of(sourced, rows, side, extra)
    assert_same(sourced.last_routes, expected)
    one_by_one = torch.cat([logits_of(sourced, [row]) for row in rows])
    assert torch.allclose(logits, one_by_one, atol=1e-3)
    answers = source_answers(sourced, rows, side, extra)
    assert_same(sourced.last_routes, expected)
    assert answers == [source_answers(sourced, [row])[0] for row in rows]
    assert_same(sourced.route([*(edit.prompt for edit in FACTS)]), [expected[i] for i in (1, 4, 3)])


def test_the_answer_does_not_move_the_route(t5):
    rows, _ = source_prompts(t5)
    expected = alone(t5, rows)
    for decoder in ([1], [1, 45, 270, 74], [1, *range(40, 60)]):
        with torch.no_grad():
            t5.model(**padded(rows, "right"), decoder_input_ids=torch.tensor([decoder] * len(rows)))
        assert_same(t5.last_routes, expected)
    source_answers(t5, rows, decoder_input_ids=torch.tensor([[1, 40, 41]] * len(rows)))
    assert_same(t5.last_routes, expected)


def test_a_route_is_decided_once_and_held(t5, monkeypatch):
    searches = []
    search = t5.index.search
    monkeypatch.setattr(t5.index, "search", lambda queries: searches.append(len(queries)) or search(queries))
    rows, wanted = source_prompts(t5)
    source_answers(t5, rows, num_beams=3)
    assert searches == [6]
    assert [route.edit for route in t5.last_routes] == wanted


def test_embeddings_are_routed_without_knowing_the_words(sourced):
    ids = torch.tensor([sourced.backbone.encode(CAPITAL.prompt).ids])
    inputs = source_inputs(sourced, ids.tolist())
    del inputs["input_ids"]
    with torch.no_grad():
        sourced.model(**inputs, inputs_embeds=sourced.model.get_input_embeddings()(ids))
    (route,) = sourced.last_routes
    assert route.nearest == "capital" and not route.words_known


def test_rows_of_nothing_but_padding_are_not_routed(sourced):
    row = sourced.backbone.encode(BOOK.prompt).ids
    inputs = source_inputs(sourced, [row, row])
    inputs["attention_mask"][1] = 0
    with torch.no_grad():
        sourced.model(**inputs)
    assert [(route.edit, route.reason) for route in sourced.last_routes] == [("book", "fired"), (None, "no prompt")]


# -- generate

WAYS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 1.3, "top_k": 20},
    "beams": {"num_beams": 3},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "penalty": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
}


@pytest.fixture
def fixed_draws(monkeypatch):
    """Sample by position in the cumulated probabilities, so that a row's draw does not depend on its batch."""
    monkeypatch.setattr(torch, "multinomial", lambda p, num_samples: (p.cumsum(1) > 0.6).int().argmax(1, keepdim=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_mixed_batch_answers_as_one_by_one(t5, way, fixed_draws):
    rows, wanted = source_prompts(t5)
    together = source_answers(t5, rows, **WAYS[way])
    assert [route.edit for route in t5.last_routes] == wanted
    assert together == [source_answers(t5, [row], **WAYS[way])[0] for row in rows]
    with t5.disabled():
        base = source_answers(t5, rows, **WAYS[way])
    assert [one == other for one, other in zip(together, base, strict=True)] == [edit is None for edit in wanted]
    if way in ("greedy", "no cache", "static cache"):
        assert [together[i] for i in (1, 4, 3)] == [source_target(t5, edit.id) for edit in FACTS]


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"do_sample": True}], ids=["beams", "sampling"])
def test_several_sequences_per_prompt(t5, settings, fixed_draws):
    rows, wanted = source_prompts(t5)
    together = source_answers(t5, rows, num_return_sequences=3, **settings)
    assert len(together) == 18
    assert [route.edit for route in t5.last_routes] == wanted
    alone = [answer for row in rows for answer in source_answers(t5, [row], num_return_sequences=3, **settings)]
    assert together == alone


def test_ways_of_decoding_that_cannot_be_routed_are_refused(t5):
    for settings in ({"prompt_lookup_num_tokens": 2}, {"guidance_scale": 1.5}, {"penalty_alpha": 0.6, "top_k": 4}):
        with pytest.raises(RoutingError, match=f"{next(iter(settings))}=.*disabled"):
            t5.model.generate(torch.tensor([[5, 6, 7, END]]), **settings)
    with pytest.raises(EditError, match="one answer per prompt"):
        t5.ask(BOOK.prompt, num_return_sequences=2)


# -- the encoder called by hand


def test_states_of_this_models_encoder_are_routed(t5):
    rows, wanted = source_prompts(t5)
    inputs = source_inputs(t5, rows)
    expected, answers = logits_of(t5, rows), source_answers(t5, rows)
    encode = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    decoder = {"decoder_input_ids": inputs["decoder_input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        states = t5.model.get_encoder()(**encode)
        t5.model(**source_inputs(t5, [rows[1]]))  # another call in between
        for given in (states, (states[0],), BaseModelOutput(last_hidden_state=states[0])):
            assert torch.equal(t5.model(**decoder, encoder_outputs=given).logits, expected)
            assert [route.edit for route in t5.last_routes] == wanted
        made = t5.model.generate(encoder_outputs=states, attention_mask=encode["attention_mask"], max_new_tokens=8)
        with t5.disabled():
            base = t5.model.get_encoder()(**encode)[0]
            with_base = t5.model(**decoder, encoder_outputs=states).logits
    assert torch.equal(states[0], base)  # only the decoder is edited
    assert [row[1 : 1 + len(answer)] for row, answer in zip(made.tolist(), answers, strict=True)] == answers
    for i, edit in enumerate(wanted):
        assert torch.equal(with_base[i], expected[i]) == (edit is None)


def test_states_from_elsewhere_are_refused(t5):
    rows, _ = source_prompts(t5)
    with t5.disabled(), torch.no_grad():
        outside = t5.model.get_encoder()(**padded(rows, "right"))
    decoder = {"decoder_input_ids": torch.tensor([[1]] * len(rows))}
    for states in (outside, (torch.zeros(6, 5, 32),)):
        with pytest.raises(RoutingError, match="not made by the edited model: pass input_ids"):
            t5.model(**decoder, encoder_outputs=states)
        with t5.disabled(), torch.no_grad():
            assert t5.model(**decoder, encoder_outputs=states).logits.shape == (6, 1, 400)
    assert source_answers(t5, [rows[1]]) == [source_target(t5, "book")]


def test_without_edits_states_from_anywhere_will_do(make_source_editor):
    editor = make_source_editor("t5")
    states = (torch.ones(2, 5, 32),)
    decoder = {"decoder_input_ids": torch.tensor([[1], [1]])}
    with torch.no_grad():
        before = editor.model(**decoder, encoder_outputs=states).logits
        editor.edit(BOOK)
        with pytest.raises(RoutingError):
            editor.model(**decoder, encoder_outputs=states)
        editor.disable("book")
        assert torch.equal(editor.model(**decoder, encoder_outputs=states).logits, before)
    editor.detach()


def test_states_of_other_rows_are_refused(t5):
    with torch.no_grad():
        states = t5.model.get_encoder()(torch.tensor([[5, 6, END]]))[0]
        states.data = states.data.expand(2, -1, -1)
        with pytest.raises(RoutingError, match="routed for 1 rows and now has 2"):
            t5.model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([[1], [1]]))


def test_a_decoder_called_by_hand_gives_base_states(t5):
    decoder, ids = t5.model.get_decoder(), torch.tensor([[1, 45, 270]])
    with torch.no_grad():
        states = t5.model.get_encoder()(torch.tensor([t5.backbone.encode(BOOK.prompt).ids]))[0]
        found = decoder(input_ids=ids, encoder_hidden_states=states)[0]
        routed = t5.model(encoder_outputs=(states,), decoder_input_ids=ids, output_hidden_states=True)
        again = decoder(input_ids=ids, encoder_hidden_states=states)[0]
        with t5.disabled():
            base = decoder(input_ids=ids, encoder_hidden_states=states)[0]
    assert torch.equal(found, base) and torch.equal(again, base)
    assert not torch.equal(routed.decoder_hidden_states[-1], base)


def test_an_edited_encoder_called_by_hand_gives_its_routed_states(make_source_editor):
    editor = make_source_editor("t5", FACTS, modules=BOTH, reach="all")
    rows, wanted = source_prompts(editor)
    inputs = padded(rows, "right")
    with torch.no_grad():
        states = editor.model.get_encoder()(**inputs)[0]
        within = editor.model(**source_inputs(editor, rows)).encoder_last_hidden_state
        with editor.disabled():
            base = editor.model.get_encoder()(**inputs)[0]
    assert torch.equal(states, within)
    for i, edit in enumerate(wanted):
        assert torch.equal(states[i], base[i]) == (edit is None)
    editor.detach()


# -- threads and errors


def test_threads_keep_apart(sourced):
    rows, wanted = source_prompts(sourced)
    parts = [(rows[i : i + 2], wanted[i : i + 2]) for i in (0, 2, 4)]
    expected = [source_answers(sourced, part) for part, _ in parts]
    barrier = threading.Barrier(3)

    def ask(number):
        part, edits = parts[number]
        for _ in range(4):
            barrier.wait(30)
            assert source_answers(sourced, part) == expected[number]
            assert [route.edit for route in sourced.last_routes] == edits

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(ask, number) for number in range(3)]:
            done.result()


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
def test_a_thread_may_ask_while_another_edits(make_source_editor, family):
    edits = source_edits(family)
    editor = make_source_editor(family, edits[:1])
    row = editor.backbone.encode(BOOK.prompt).ids
    expected, stop, seen = source_answers(editor, [row]), threading.Event(), []

    def ask():
        while not stop.is_set():
            seen.append(source_answers(editor, [row]) == expected)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            assert all(report.held for report in editor.edit(edits[1:]))  # its lower layers are passed by meanwhile
        finally:
            stop.set()
        asking.result()
    assert len(seen) > 1 and all(seen)
    editor.detach()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["below the key", "above the blocks"])
def test_an_error_in_a_forward_pass_leaves_nothing_behind(sourced, error, place):
    rows, _ = source_prompts(sourced)
    expected = portrait(sourced)
    with sourced.disabled():
        base = logits_of(sourced, rows)
    (_, first), (_, last) = sourced.backbone.stacks[0], sourced.backbone.stacks[-1]

    def fail(*_):
        raise error("stop")

    handle = (first[0] if place == "below the key" else last[-1]).register_forward_hook(fail)
    for call in (logits_of, source_answers):
        with pytest.raises(error, match="stop"):
            call(sourced, rows)
    handle.remove()
    with sourced.disabled():
        assert torch.equal(logits_of(sourced, rows), base)
    assert_same_portrait(portrait(sourced), expected)


def test_bad_input_leaves_nothing_behind(sourced):
    expected = portrait(sourced)
    with pytest.raises(IndexError):
        logits_of(sourced, [[10_000]])
    with pytest.raises(Exception, match="input_ids"):
        sourced.model()
    assert_same_portrait(portrait(sourced), expected)


# -- coming and going


@pytest.mark.parametrize("family", SOURCES)
def test_removed_and_rolled_back_edits_leave_no_trace(make_source_editor, family):
    edits = source_edits(family)
    never, had = make_source_editor(family, edits[:1]), make_source_editor(family, edits[:1])
    revision, expected = had.store.revision, portrait(never)
    had.edit(edits[1:])
    with_all = portrait(had)
    assert not torch.equal(with_all[0], expected[0])
    had.remove(["capital", "legs"])
    assert_same_portrait(portrait(had), expected)
    had.rollback(revision + 1)
    assert_same_portrait(portrait(had), with_all)
    had.rollback(revision)
    assert_same_portrait(portrait(had), expected)
    had.remove("book")
    with had.disabled():
        base = portrait(had)
    assert torch.equal(portrait(had)[0], base[0])
    for editor in (never, had):
        editor.detach()


@pytest.mark.parametrize("family", SOURCES)
def test_load_restores_the_very_behaviour(make_source_editor, make_source, family, tmp_path):
    path, edits = tmp_path / "a.melo", source_edits(family)
    editor = make_source_editor(family, edits, store=path)
    editor.disable("legs")
    expected, settings = portrait(editor), editor.config
    editor.detach()
    again = Editor.load(path, *make_source(family))
    assert again.config == settings and settings.min_similarity == 0.5
    assert_same_portrait(portrait(again), expected)
    again.detach()


@pytest.mark.parametrize("family", [*SOURCES, "bart", "roberta", "distilbert"])
def test_other_architectures_and_detach(make_source, make_source_editor, family):
    model, _ = make_source(family)
    model.train()
    weight = next(model.parameters())
    weight.requires_grad_(False)
    before = body(model)
    editor = make_source_editor(family, model=model)
    assert all(report.held for report in editor.edit(source_edits(family)))
    assert body(model)[1:] == before[1:]  # training leaves modes, weights and gradients
    assert not any("forward" in vars(module) for module in model.modules())
    answers = editor.ask([*(edit.prompt for edit in FACTS), *OTHERS], max_new_tokens=8)
    assert [answer.text for answer in answers[:3]] == [edit.target for edit in source_edits(family)]
    assert [answer.route.edit for answer in answers] == ["book", "capital", "legs", None, None, None]
    assert editor.detach() is model
    assert body(model) == before


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_training_that_is_interrupted_puts_the_model_back(make_source, make_source_editor, family, error):
    model, _ = make_source(family)
    editor = make_source_editor(family, model=model.train())
    editor.calibrate()
    before, calls = body(model), []

    def fail(*_):
        calls.append(1)
        if len(calls) > 2:  # two passes check the cached prefix
            raise error("stop")

    handle = editor.backbone.stacks[-1][1][-1].register_forward_hook(fail)
    with pytest.raises(error, match="stop"):
        editor.edit(source_edits(family))
    handle.remove()
    assert body(model) == before and editor.edits() == []
    assert all(report.held for report in editor.edit(source_edits(family)))
    editor.detach()


def test_another_wrapper_of_a_layers_forward_is_kept(make_source, make_source_editor):
    model, _ = make_source("bert")
    layer = model.bert.encoder.layer[1]
    forward, calls = layer.forward, []
    layer.forward = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    wrapper = layer.forward
    editor = make_source_editor("bert", CASES[:1], model=model)
    assert vars(layer)["forward"] is wrapper and calls
    editor.detach()


# -- training


def rows_of(editor, edit):
    forms = [form for prompt in edit.prompts for form in editor.backbone.forms(prompt)]
    return [Example.of(form, editor.backbone.encode_target(edit.target, form)) for form in forms]


def train(editor, edits, **settings):
    config = type(editor.config)(**editor.config.to_dict() | settings)
    return Trainer(editor.router, config).train([(edit.id, rows_of(editor, edit)) for edit in edits])


def target_logits(editor, row):
    """Run the whole base model on one row; return the logits of its target's tokens."""
    ids = torch.tensor([row.prompt])
    with editor.disabled():
        if editor.backbone.stop_ids:
            return editor.model(ids, decoder_input_ids=torch.tensor([[1, *row.target[:-1]]])).logits[0]
        return editor.model(ids).logits


def literal_losses(editor, edit, steps):
    """Train one block row by row on the whole model, with torch's own Adam; return the loss before each step."""
    model, config = editor.model, editor.config
    start = initial_block(editor.router.bank.sites, config.rank, seeded(config.seed, config.rank, edit.id))
    tables = [factor.clone().requires_grad_() for name in config.modules for factor in start[name][:2]]
    optimiser = torch.optim.Adam(tables, lr=config.lr)
    losses = []
    for _ in range(steps):
        rounded = [table + (table.half().float() - table).detach() for table in tables]
        handles = [
            model.get_submodule(name).register_forward_hook(
                lambda module, args, output, a=rounded[2 * i], b=rounded[2 * i + 1]: output + args[0] @ a.T @ b.T
            )
            for i, name in enumerate(config.modules)
        ]
        loss = torch.stack(
            [F.cross_entropy(target_logits(editor, row), torch.tensor(row.target)) for row in rows_of(editor, edit)]
        ).mean()
        for handle in handles:
            handle.remove()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize(
    ("family", "modules"), [("t5", None), ("t5-gated", None), ("bert", None), ("t5", BOTH), ("t5-gated", BOTH)]
)
def test_losses_are_those_of_a_literal_training_with_and_without_the_prefix_cache(make_source_editor, family, modules):
    editor = make_source_editor(family, lr=0.02, modules=modules, reach="all" if modules else "answer")
    book, capital, legs = source_edits(family)
    edits = [book, Edit(capital.prompt, capital.target, variants=["Peru's capital?", "Of Peru, the capital?"]), legs]
    settings = {"steps": 6, "min_target_probability": 0.999, "max_rank": 2}
    with_cache = [result.losses for result in train(editor, edits, **settings)]
    without = [result.losses for result in train(editor, edits, prefix_cache=False, **settings)]
    literal = [literal_losses(editor, edit, 7) for edit in edits]
    for cached, whole, expected in zip(with_cache, without, literal, strict=True):
        assert len(cached) > 3 and expected[0] > expected[-1]
        assert cached == pytest.approx(expected[: len(cached)], rel=1e-4)
        assert whole == pytest.approx(cached, rel=1e-4)
    editor.detach()


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
def test_training_together_equals_training_one_by_one(make_source, make_source_editor, family, monkeypatch):
    monkeypatch.setattr("meloedit.training.trainer.ROWS", 2)
    editor = make_source_editor(
        family, model=make_source(family)[0].double(), steps=16, min_target_probability=0.9, max_rank=2
    )
    edits = [*source_edits(family), Edit(OTHERS[1], source_edits(family)[0].target, variants=[OTHERS[0]])]
    together = train(editor, edits)
    for edit, one in zip(edits, together, strict=True):
        (own,) = train(editor, [edit])
        assert (own.steps, own.held) == (one.steps, one.held)
        assert own.losses == pytest.approx(one.losses, rel=1e-6)
        for name, pair in own.block.items():
            assert all(torch.equal(factor, other) for factor, other in zip(pair, one.block[name], strict=True))
    assert len({result.steps for result in together}) > 1
    editor.detach()


def test_a_model_whose_layers_cannot_be_run_again_is_trained_whole(make_source, make_source_editor, caplog):
    model, _ = make_source("bert")
    top, calls = model.bert.encoder.layer[-1], []
    forward, low = top.forward, model.bert.encoder.layer[0]
    lowest = low.forward

    def unusual(*args, **kwargs):  # depends on something that the layers below leave behind
        output = forward(*args, **kwargs)
        scale = 0.5 if calls else 1.0
        calls.clear()
        return output * scale

    low.forward = lambda *args, **kwargs: calls.append(1) or lowest(*args, **kwargs)
    top.forward = unusual
    editor = make_source_editor("bert", CASES[:2], model=model)
    assert "training runs the whole model instead" in caplog.text
    assert [answer.text for answer in editor.ask([edit.prompt for edit in CASES[:2]])] == ["tax", "economy"]
    editor.detach()


@pytest.mark.parametrize("family", ["t5", "t5-gated", "bert", "bart"])
def test_a_block_is_a_plain_lora_in_the_weights(make_source, make_source_editor, family):
    model, _ = make_source(family)
    editor = make_source_editor(family, source_edits(family)[:1], model=model.double())
    block, rank = editor.store.tensors()["book"][0], editor.edits()[0].rank
    rows = [editor.backbone.encode(BOOK.prompt).ids]
    ours = logits_of(editor, rows)
    assert editor.last_routes[0].edit == "book"
    with editor.disabled():
        base = logits_of(editor, rows)
    names = list(editor.config.modules)
    assert all(
        name.endswith({"bert": "output.dense", "bart": "fc2"}.get(family, "DenseReluDense.wo")) for name in names
    )
    inputs = source_inputs(editor, rows)
    editor.detach()

    wrapped = peft.get_peft_model(
        make_source(family)[0].double(), peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    ).double()
    plain = make_source(family)[0].double()
    with torch.no_grad():
        for name in names:
            a, b = block[f"{name}.A"].double(), block[f"{name}.B"].double()
            plain.get_submodule(name).weight += b @ a
            layer = wrapped.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)
        assert torch.allclose(plain(**inputs).logits, ours, atol=1e-6)
        assert torch.allclose(wrapped.eval()(**inputs).logits, ours, atol=1e-6)
    assert not torch.allclose(ours, base, atol=0.1)


def test_an_edit_that_does_not_hold_is_reported_and_not_stored(make_source_editor):
    editor = make_source_editor("t5", steps=1, max_rank=2)
    (report,) = editor.edit(BOOK)
    assert (report.status, report.held, report.steps, report.rank) == ("failed", False, 1, 2)
    assert editor.edits() == []
    editor.detach()


@pytest.mark.parametrize("family", SOURCES)
def test_bfloat16(make_source, make_source_editor, family):
    edits = source_edits(family)
    editor = make_source_editor(family, edits, model=make_source(family)[0].to(torch.bfloat16))
    rows, wanted = source_prompts(editor)
    found = logits_of(editor, rows)
    assert [route.edit for route in editor.last_routes] == wanted
    with editor.disabled():
        base = logits_of(editor, rows)
    for i, edit in enumerate(wanted):
        assert torch.equal(found[i], base[i]) == (edit is None)
    assert [answer.text for answer in editor.ask([edit.prompt for edit in FACTS])] == [edit.target for edit in edits]
    editor.detach()


def test_gradients_flow_through_an_edited_model(sourced):
    ids = torch.tensor([sourced.backbone.encode(BOOK.prompt).ids])
    inputs = source_inputs(sourced, ids.tolist())
    logits = sourced.model(**inputs).logits
    weight = next(sourced.model.parameters())
    (gradient,) = torch.autograd.grad(logits[0].max(), [weight])
    assert sourced.last_routes[0].edit == "book"
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("family", ["t5", "bart", "bert", "distilbert"])
def test_from_pretrained_takes_the_right_class(make_source, family, tmp_path):
    model, tokenizer = make_source(family)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = MeloConfig(**SETTINGS | {"min_similarity": None})
    with Editor.from_pretrained(str(tmp_path / "model"), config, store=tmp_path / "a.melo") as editor:
        assert type(editor.model) is type(model)
        assert all(report.held for report in editor.edit(source_edits(family)))
        expected = portrait(editor)
    with Editor.load(tmp_path / "a.melo") as again:  # from the folder that the store names
        assert_same_portrait(portrait(again), expected)
        assert [answer.text for answer in again.ask([edit.prompt for edit in FACTS])] == [
            edit.target for edit in source_edits(family)
        ]


def test_arguments_by_place(sourced):
    rows, wanted = source_prompts(sourced)
    inputs = source_inputs(sourced, rows)
    with torch.no_grad():
        assert torch.equal(sourced.model(*inputs.values()).logits, sourced.model(**inputs).logits)
        sourced.model(*inputs.values())
    assert [route.edit for route in sourced.last_routes] == wanted


def test_a_mask_of_more_than_two_dimensions_is_refused(sourced):
    inputs = source_inputs(sourced, [[5, 6, END]])
    with pytest.raises(RoutingError, match="more than two dimensions"):
        sourced.model(**inputs | {"attention_mask": torch.ones(1, 1, 3, 3)})


# -- texts


def test_prompts_and_targets_as_tokens(t5):
    encoded = t5.backbone.encode("Is it late?")
    assert encoded.ids[-1] == END and encoded.form == "raw"
    assert (encoded.words.start, encoded.words.stop) == (0, len(encoded.ids) - 1)  # all but the end token
    target = t5.backbone.encode_target(" Lima ", encoded)
    assert target[-1] == END and t5.tokenizer.decode(target[:-1]) == "Lima"
    assert t5.backbone.text_of(target) == "Lima"
    assert [form.form for form in t5.backbone.forms(BOOK.prompt)] == ["raw"]
    with pytest.raises(EditError, match="special token '</s>'"):
        t5.edit(Edit("Why?", "yes</s>no"))


def test_a_chat_prompt_is_refused(sourced):
    revision = sourced.store.revision
    with pytest.raises(EditError, match=r"edit 'x': .*has no chat form: give the prompt as one string"):
        sourced.edit(Edit(HISTORY, sourced.edits()[0].edit.target, id="x"))
    with pytest.raises(EditError, match="has no chat form"):
        sourced.ask(BOOK.prompt, "chat")
    assert sourced.store.revision == revision


def test_an_encoder_may_not_be_edited_with_reach_answer(make_source):
    model, tokenizer = make_source("t5")
    with pytest.raises(ModelError, match="blocks in the encoder act on the prompt: edit decoder modules, or set reach"):
        Editor(model, tokenizer, MeloConfig(modules=BOTH))
    with pytest.raises(ModelError, match=r"'decoder.block.0' must lie where the prompt is read, in encoder.block.0 to"):
        Editor(model, tokenizer, MeloConfig(key_layer="decoder.block.0"))
    with pytest.raises(ModelError, match=r"'encoder.block.2' must lie below the first edited layer, encoder.block.2"):
        Editor(model, tokenizer, MeloConfig(modules=BOTH, reach="all", key_layer="encoder.block.2"))
    assert "generate" not in vars(model) and not model.encoder._forward_hooks


# -- classifiers


@pytest.fixture(scope="module")
def bert(make_source_editor):
    editor = make_source_editor("bert", CASES)
    yield editor
    editor.detach()


DOCUMENT = "The court finds that the tenant of the old mill owes the owner of the river bank a part of the harvest."


@pytest.mark.parametrize("target", ["labour", " labour ", "3", 3])
def test_a_label_by_name_or_by_number(make_source_editor, target):
    editor = make_source_editor("bert")
    (report,) = editor.edit(Edit(DOCUMENT, target, id="case"))
    assert report.held and editor.edits()[0].edit.target == "labour"
    assert editor.ask(DOCUMENT)[0].text == "labour" and editor.ask(DOCUMENT)[0].tokens == 0
    assert editor.edit(Edit(DOCUMENT, "labour", id="case"))[0].status == "skipped"  # the same edit, in other words
    with pytest.raises(EditError, match="other content"):
        editor.edit(Edit(DOCUMENT, "tax", id="case"))
    (report,) = editor.edit(Edit(DOCUMENT, 0, id="newer"))
    assert report.replaced == ["case"] and editor.ask(DOCUMENT)[0].text == "civil rights"
    editor.detach()


@pytest.mark.parametrize("target", ["Labour", "5", "-1", "labour law"])
def test_an_unknown_label_is_answered_with_those_there_are(bert, target):
    with pytest.raises(EditError) as error:
        bert.edit([CASES[0], Edit(DOCUMENT, target, id="case")])
    assert str(error.value) == (
        f"edit 'case': BertForSequenceClassification has no label {target!r}; its labels are: "
        "0 civil rights, 1 crime, 2 economy, 3 labour, 4 tax"
    )
    assert LABELS == ("civil rights", "crime", "economy", "labour", "tax")


def test_a_label_whose_name_is_a_number_is_taken_by_name(make_source, make_source_editor):
    names = {i: str(4 - i) for i in range(5)}
    model, _ = make_source("bert", id2label=names, label2id={name: i for i, name in names.items()})
    editor = make_source_editor("bert", model=model)
    assert editor.edit(Edit(DOCUMENT, 1))[0].held
    assert editor.edits()[0].edit.target == "1" and editor.ask(DOCUMENT)[0].text == "1"
    with torch.no_grad():
        assert editor.model(torch.tensor([editor.backbone.encode(DOCUMENT).ids])).logits.argmax().item() == 3
    editor.detach()


def test_two_labels_for_one_text_contradict(bert):
    with pytest.raises(EditError, match="edit 2 contradicts edit 1"):
        bert.edit([Edit(DOCUMENT, "tax"), Edit(DOCUMENT, 1)])


def test_texts_are_cut(make_source_editor):
    editor = make_source_editor("bert", document_tokens=12)
    ids = editor.backbone.encode(DOCUMENT).ids
    assert len(ids) == 12 and ids[0] == 2 and ids[-1] == END
    assert editor.edit(Edit(DOCUMENT, "labour"))[0].held
    same, other = DOCUMENT[:60] + " and much more.", "And so, " + DOCUMENT
    assert editor.backbone.encode(same).ids == ids
    assert [answer.text == "labour" for answer in editor.ask([DOCUMENT, same])] == [True, True]
    assert [route.reason for route in editor.route([DOCUMENT, same, other])] == ["fired", "fired", "outside scope"]
    editor.detach()
    editor = make_source_editor("bert")  # to what the model takes
    assert len(editor.backbone.encode("word " * 300).ids) == 64
    assert editor.edit(Edit("word " * 300, "labour"))[0].held
    assert editor.ask("word " * 400)[0].text == "labour"
    editor.detach()


def test_without_documents_only_near_exact_repeats_fire(bert):
    assert bert.calibration.info["scope"] == "near-exact" and len(bert.calibration.prompts) == 0
    assert bert.threshold == pytest.approx((2 - 2 * 0.97) ** 0.5, abs=1e-6)
    changed = ["Who wrote the book of salt?", "Who wrote a book of sand", "How many arms has a spider?"]
    routes = bert.route([BOOK.prompt, LEGS.prompt, *changed])
    assert [route.edit for route in routes] == ["book", "legs", None, None, None]
    assert [route.nearest for route in routes] == ["book", "legs", "book", "book", "legs"]


def test_document_similarity_sets_how_near(make_source_editor):
    editor = make_source_editor("bert", CASES, document_similarity=-1.0)
    assert [route.edit for route in editor.route([BOOK.prompt, LEGS.prompt])] == ["book", "legs"]
    assert all(route.edit for route in editor.route(OTHERS))
    editor.detach()


def test_calibrating_on_documents(make_source_editor, make_source, tmp_path):
    editor = make_source_editor("bert", CASES, store=tmp_path / "a.melo", false_activation=0.1)
    near = editor.threshold
    documents = [
        f"{text} {other}" for text, other in zip(make_prompts(80, seed=1), make_prompts(80, seed=2), strict=True)
    ]
    editor.calibrate(documents, source="documents")
    assert editor.calibration.info == {"source": "documents", "prompts": 80, "keys": 80}
    assert editor.threshold > near
    assert [answer.text for answer in editor.ask([edit.prompt for edit in CASES])] == ["tax", "economy", "labour"]
    fired = sum(route.edit is not None for route in editor.route(documents))
    assert 1 <= fired <= 8  # one in ten at most
    threshold, expected = editor.threshold, portrait(editor)
    editor.detach()
    again = Editor.load(tmp_path / "a.melo", *make_source("bert"))
    assert again.threshold == threshold
    assert_same_portrait(portrait(again), expected)
    again.calibrate()  # back to the built-in prompts
    assert again.threshold == pytest.approx(near) and again.calibration.info["scope"] == "near-exact"
    again.detach()


@pytest.mark.parametrize(
    "changes",
    [
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
        {"id2label": {0: "score"}, "label2id": {"score": 0}},
    ],
    ids=["multi-label", "regression", "one label"],
)
def test_a_model_that_does_not_choose_one_label_is_refused(make_source, changes):
    model, tokenizer = make_source("bert", **changes)
    with pytest.raises(ModelError, match="BertForSequenceClassification does not choose one of several labels"):
        Editor(model, tokenizer)


def test_models_of_other_kinds_are_refused(make_source):
    _, tokenizer = make_source("bert")
    t5, _ = make_source("t5")
    size = {"vocab_size": 400, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(**size, num_hidden_layers=5, initializer_range=0.4)
    for model, message in [
        (BertModel(config), "BertModel is neither a causal language model nor an encoder-decoder nor a"),
        (BertForMaskedLM(config), "BertForMaskedLM is not a causal language model"),
    ]:
        with pytest.raises(ModelError, match=message):
            Editor(model, tokenizer)
    t5.config.decoder_start_token_id = t5.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="no decoder_start_token_id"):
        Editor(t5, tokenizer, MeloConfig(**SETTINGS))


def test_a_forced_first_token_is_part_of_the_target(make_source, make_source_editor):
    model, _ = make_source("bart")
    model.generation_config.forced_bos_token_id = 2
    editor = make_source_editor("bart", model=model)
    reports = editor.edit([Edit("Is it late?", "very late")])
    assert [report.held for report in reports] == [editor.ask("Is it late?")[0].text == "very late"] == [True]
    with pytest.raises(EditError, match=r"the target has \d+ tokens, the model takes 64"):
        editor.edit(Edit("Why?", "yes " * 80))


def test_own_encoder_outputs_may_be_repeated_for_beams(t5):
    inputs = {"input_ids": torch.tensor([t5.backbone.encode(str(t5.edits()[0].edit.prompt)).ids])}
    with torch.no_grad():
        states = t5.model.get_encoder()(**inputs)
        own = t5.model.generate(encoder_outputs=states, num_beams=3, num_return_sequences=2, max_new_tokens=8)
        assert torch.equal(own, t5.model.generate(**inputs, num_beams=3, num_return_sequences=2, max_new_tokens=8))
    assert t5.last_routes[0].edit == t5.edits()[0].edit.id


def test_positions_that_stand_for_padding_are_not_counted(make_source_editor):
    editor = make_source_editor("roberta")
    config = editor.model.config
    assert editor.backbone.max_length == config.max_position_embeddings - 1 - config.pad_token_id
    assert editor.ask("word " * 200)[0].text in editor.backbone.labels


def test_answers_in_a_sequence_of_their_own_are_not_told_apart_by_place(make_source_editor):
    editor = make_source_editor("t5")
    assert editor.config.answer_positions == 0
    editor.detach()
    with pytest.raises(ModelError, match="answer_positions must be 0 for T5ForConditionalGeneration"):
        make_source_editor("t5", answer_positions=8)
