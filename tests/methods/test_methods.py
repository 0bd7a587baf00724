"""The contract that every editing method keeps, on tiny models of the three kinds."""

import pytest
import torch
from conftest import OTHERS, SETTINGS, source_edits

from meloedit import Edit
from meloedit.errors import EditError, MeloEditError
from meloedit.methods import METHODS, method_class

KINDS = ("llama", "t5", "bert")
NAMES = tuple(name for name in METHODS if name not in ("rag",))  # rag: tests/test_real_methods.py, with its encoder
QUICK = {
    "melo": SETTINGS,
    "melo-paper": {"radius": 1e-3, "edits_per_block": 2, "lr": 0.1, "rank": 4},
    "grace": {"eps": 1e-3, "n_iter": 30, "replacement": "replace_last"},
    "lora": {"steps": 40, "lr": 0.02, "dropout": 0.1},
    "ft": {"depth": 1.0, "lr": 0.05, "passes": 60},
    "none": {},
}
QUESTIONS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
]


@pytest.fixture
def opened(make_model, make_source, tokenizer, tmp_path):
    """Open a method on a fresh model of a kind; the method, and the edits to make with it."""
    made = []

    def open_it(name, kind="llama", folder=None, **changes):
        if kind == "llama":
            model, own, edits = make_model("llama"), tokenizer, QUESTIONS
        else:
            (model, own), edits = make_source(kind), source_edits(kind)[:3]
        if name == "grace" and kind != "llama":  # a classifier reads its first token
            changes |= {"replacement": "replace_prompt"}
        method = method_class(name)(model, own, QUICK[name] | changes, folder)
        method.prepare([])
        made.append(method)
        return method, list(edits)

    yield open_it
    for method in made:
        method.close()


def texts(edits):
    return [str(edit.prompt) for edit in edits]


def logits(method, prompts):
    """Logits of two target tokens (a label for classifiers) after each prompt."""
    return torch.stack([rows[0] for rows in method.logits(prompts, [[1, 1]] * len(prompts))])


def make(method, edits):
    for start in range(0, len(edits), method.settings.edits_per_call):
        method.edit(edits[start : start + method.settings.edits_per_call])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_edits_change_answers_and_reset_and_close_bring_the_model_back(opened, name, kind):
    method, edits = opened(name, kind)
    prompts = [*texts(edits), *OTHERS]
    before, said = logits(method, prompts), [a.text for a in method.answer(prompts)]
    make(method, edits)
    after = logits(method, prompts)
    if name == "none":
        assert torch.equal(before, after)
    else:
        assert not torch.equal(before[: len(edits)], after[: len(edits)])
        assert method.size().parameters > 0 and method.size().nbytes > 0
        assert set(method.edits) == {edit.id for edit in edits}
    if method.routes:  # out of scope, bit for bit
        assert torch.equal(before[len(edits) :], after[len(edits) :])
    method.reset()
    assert torch.equal(logits(method, prompts), before) and method.edits == {}
    assert [a.text for a in method.answer(prompts)] == said
    make(method, edits)
    method.close()
    rows = [method.backbone.encode(prompt) for prompt in prompts]
    from meloedit.backbones.batch import Example

    with torch.no_grad():
        plain = method.backbone.target_logits([Example.of(row, [1, 1]) for row in rows])
    assert torch.equal(torch.stack([row[0] for row in plain]), before)
    assert not any("lora" in key for key, _ in method.model.named_modules())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("none", "melo-paper", "grace")])
def test_what_was_edited_is_answered(opened, name):
    method, edits = opened(name)
    make(method, edits[-1:])
    assert method.answer(texts(edits[-1:]))[0].text == edits[-1].target


def test_grace_says_the_first_token_of_its_target(opened):  # one vector holds no more of a random model
    method, edits = opened("grace")
    make(method, edits[-1:])
    wanted = method.examples(edits[-1:])[0].target
    assert method.logits(texts(edits[-1:]), [wanted])[0][0].argmax() == wanted[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_was_kept_answers_as_before_and_goes_on_as_before(opened, name, kind, tmp_path):
    method, edits = opened(name, kind, tmp_path / "one")
    first, rest = edits[: method.settings.edits_per_call], edits[method.settings.edits_per_call :]
    make(method, first)
    noted, kept = method.checkpoint(), logits(method, texts(edits))
    make(method, rest)
    whole = logits(method, texts(edits))
    method.restore(noted, first)
    assert torch.equal(logits(method, texts(edits)), kept)
    make(method, rest)
    assert torch.equal(logits(method, texts(edits)), whole)
    assert list(method.edits) == [edit.id for edit in edits]


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).removes])
def test_removal_restores_the_base_model_bit_for_bit(opened, name):
    method, edits = opened(name)
    before = logits(method, texts(edits))
    make(method, edits)
    held = logits(method, texts(edits))
    method.remove([edits[0].id])
    assert torch.equal(logits(method, texts(edits))[0], before[0])
    assert torch.equal(logits(method, texts(edits))[1], held[1])
    with pytest.raises(EditError, match="no edit 'book'"):
        method.remove(["book"])


@pytest.mark.parametrize("name", [name for name in NAMES if not method_class(name).removes])
def test_what_cannot_be_removed_is_refused(opened, name):
    method, edits = opened(name)
    with pytest.raises(EditError, match=f"method {name} cannot remove"):
        method.remove([edits[0].id])


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).routes])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_answered_as_its_prompts_one_by_one(opened, name, kind):
    method, edits = opened(name, kind)
    make(method, edits)
    prompts = [*texts(edits), *OTHERS]
    together = method.answer(prompts)
    alone = [method.answer([prompt])[0] for prompt in prompts]
    assert [(a.text, a.route.edit if a.route else None) for a in together] == [
        (a.text, a.route.edit if a.route else None) for a in alone
    ]
    assert [a.route.edit for a in together[: len(edits)]] == [edit.id for edit in edits]
    assert [a.route.edit for a in together[len(edits) :]] == [None] * len(OTHERS)


@pytest.mark.parametrize("name", list(METHODS))
def test_an_unknown_setting_is_named_with_the_known_ones(name):
    with pytest.raises(MeloEditError, match=r"'colour'"):
        method_class(name).read_settings({"colour": 1})


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(MeloEditError, match="no method 'rome'; there are: melo, melo-paper, grace"):
        method_class("rome")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("grace", {"replacement": "some"}, "replacement must be one of"),
        ("grace", {"n_iter": 1.5}, "n_iter must be a whole number"),
        ("grace", {"edits_per_call": 2}, "edits_per_call must be 1"),
        ("lora", {"lr": "fast"}, "lr must be a number"),
        ("ft", {"edits_per_call": 0}, "edits_per_call must be positive"),
        ("lora", {"rank": 0}, "rank must be positive and finite, not 0"),
        ("lora", {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ("grace", {"eps": -1.0}, "eps must be positive"),
        ("grace", {"prefix_cache": 1}, "prefix_cache must be true or false"),
        ("grace", {"colour": 2}, "it has: seed, layer, eps"),
        ("rag", {"top": 0}, "top must be positive"),
        ("rag", {"form": "{prompt}"}, "form must contain {facts} and {prompt}"),
        ("melo", {"mode": "paper"}, "paper mode is the method melo-paper"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(name, settings, words):
    with pytest.raises(MeloEditError, match=words.replace("{", r"\{").replace("}", r"\}")):
        method_class(name).read_settings(settings)


def test_rag_says_that_it_cannot_serve_documents():
    with pytest.raises(MeloEditError, match="rag cannot serve task scotus"):
        method_class("rag").check_task("scotus", "document")
    method_class("rag").check_task("zsre", "question")


def test_rag_measures_chords_and_a_wrong_encoder_is_one_line(make_model, make_source, tokenizer, tmp_path):
    encoder, own = make_source("bert")
    encoder.save_pretrained(tmp_path / "encoder")
    own.save_pretrained(tmp_path / "encoder")
    rag = method_class("rag")(make_model("llama"), tokenizer, {"encoder": str(tmp_path / "encoder")})
    rag.edit(QUESTIONS)
    texts = [QUESTIONS[0].prompt, "Is it late?"]
    first, other = rag.route(texts)
    cosine = float((rag.encoder.embed(texts[1:]) @ rag.encoder.embed([edit.prompt for edit in QUESTIONS]).T).max())
    assert first.edit == "book" and first.distance == pytest.approx(0, abs=1e-3)
    assert other.distance == pytest.approx((2 - 2 * cosine) ** 0.5, abs=1e-4)
    assert other.threshold == pytest.approx(2**0.5)
    with pytest.raises(MeloEditError, match=r"cannot load the encoder '/no/such' \(there is no such folder, [^\n]+$"):
        method_class("rag")(rag.model, tokenizer, {"encoder": "/no/such"})


def test_ft_and_grace_refuse_layers_that_there_are_not(opened):
    with pytest.raises(MeloEditError, match=r"depth must lie between 0 and 1, not 9"):
        opened("ft", depth=9.0)
    with pytest.raises(MeloEditError, match="no linear module 'x'"):
        opened("grace", layer="x")


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_grace_with_layers_run_once_makes_the_same_values_to_the_bit(opened, kind):
    books = []
    for cached in (True, False):
        method, edits = opened("grace", kind, prefix_cache=cached)
        forwards = [layer.forward for _, layers in method.backbone.stacks for layer in layers]
        method.edit(edits)
        assert forwards == [layer.forward for _, layers in method.backbone.stacks for layer in layers]
        books.append(method.codebook)
        method.close()
    assert torch.equal(books[0].values, books[1].values) and len(books[0].values) > 1
