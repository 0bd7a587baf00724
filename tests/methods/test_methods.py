"""The protocol, which every method keeps, on tiny models of the three kinds."""

import pytest
import torch
from support.prompts import OTHERS, SETTINGS, source_edits, training_edits

from meloedit import Edit
from meloedit.backbones.batch import Example
from meloedit.errors import EditError, MeloEditError
from meloedit.methods import METHODS, method_class

KINDS = ("llama", "t5", "bert")
CAUSAL = ("rome", "memit", "alphaedit", "wise")
REFUSED = {("ultraedit", "bert"), *((name, kind) for name in CAUSAL for kind in ("t5", "bert"))}
NAMES = tuple(name for name in METHODS if name not in ("rag",))  # rag: test_real_methods.py, with the real encoder
LOCATED = {"tokens": 200, "contexts": 2, "v_num_grad_steps": 3, "depth": 0.5}
LEARNED = {"steps": 12, "batch_size": 4, "val_interval": 6}
QUICK = {
    "melo": SETTINGS,
    "melo-paper": {"radius": 1e-3, "edits_per_block": 2, "lr": 0.1, "rank": 4},
    "grace": {"eps": 1e-3, "n_iter": 30, "replacement": "replace_last"},
    "wise": {"n_iter": 8, "contexts": 1, "save_freq": 2, "merge_freq": 2, "edit_lr": 0.5},
    "lora": {"steps": 40, "lr": 0.02, "dropout": 0.1},
    "ft": {"depth": 1.0, "lr": 0.05, "passes": 60},
    "locft": {"depth": 1.0, "lr": 0.05, "passes": 30},
    "ultraedit": {"lr": 0.1, "batch_size": 2, "edits_per_call": 2},
    "mend": LEARNED | {"rank": 8, "edit_lr": 1e-2, "layers": 2},
    "serac": LEARNED | {"lr": 3e-3, "scale": 12.0, "threshold": 0.65, "layers": 2},
    "rome": LOCATED,
    "memit": LOCATED | {"layers": 2, "mom2_update_weight": 1.0, "edits_per_call": 2},
    "alphaedit": LOCATED | {"layers": 2, "nullspace_threshold": 1.0, "L2": 0.1, "edits_per_call": 2},
    "none": {},
}
UNHELD = ("none", "wise", "melo-paper", "grace", "rome", "memit", "alphaedit", "ultraedit", "mend", "serac")
"""Methods that do not bring a random model to a whole target: they change too little of it."""
PAIRS = [(name, kind) for name in NAMES for kind in KINDS if (name, kind) not in REFUSED]
QUESTIONS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book", subject="book of sand"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs", subject="spider"),
]


@pytest.fixture
def opened(make_model, make_source, tokenizer, tiny_encoder):
    """Open a method on a new model of a kind; return the method and the edits to make with it."""
    methods = []

    def open_it(name, kind="llama", folder=None, **changes):
        if kind == "llama":
            model, reader, edits = make_model("llama"), tokenizer, QUESTIONS
        else:
            (model, reader), edits = make_source(kind), source_edits(kind)[:3]
        if name == "grace" and kind != "llama":  # a classifier reads its first token
            changes |= {"replacement": "replace_prompt"}
        if name == "serac":
            changes |= {"encoder": tiny_encoder}
        method = method_class(name)(model, reader, QUICK[name] | changes, folder)
        method.fit(training_edits(kind))
        method.prepare([])
        methods.append(method)
        return method, list(edits)

    yield open_it
    for method in methods:
        method.close()


def texts(edits):
    return [str(edit.prompt) for edit in edits]


def logits(method, prompts):
    """Logits of two target tokens (a label for classifiers) after each prompt."""
    return torch.stack([rows[0] for rows in method.logits(prompts, [[1, 1]] * len(prompts))])


def make(method, edits):
    for start in range(0, len(edits), method.settings.edits_per_call):
        method.edit(edits[start : start + method.settings.edits_per_call])


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_edits_change_answers_and_reset_and_close_bring_the_model_back(opened, name, kind):
    method, edits = opened(name, kind)
    prompts = [*texts(edits), *OTHERS]
    before, answers = logits(method, prompts), [a.text for a in method.answer(prompts)]
    make(method, edits)
    after = logits(method, prompts)
    if name == "none":
        assert torch.equal(before, after)
    else:
        assert not torch.equal(before[: len(edits)], after[: len(edits)])
        assert method.size().parameters > 0 and method.size().nbytes > 0
        assert set(method.edits) == {edit.id for edit in edits}
    if method.routes and name != "wise":  # out of scope, bit for bit
        assert torch.equal(before[len(edits) :], after[len(edits) :])
    method.reset()
    assert torch.equal(logits(method, prompts), before) and method.edits == {}
    assert [a.text for a in method.answer(prompts)] == answers
    make(method, edits)
    method.close()
    rows = [method.backbone.encode(prompt) for prompt in prompts]
    with torch.no_grad():
        plain = method.backbone.target_logits([Example.of(row, [1, 1]) for row in rows])
    assert torch.equal(torch.stack([row[0] for row in plain]), before)
    assert not any("lora" in key for key, _ in method.model.named_modules())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNHELD])
def test_what_was_edited_is_answered(opened, name):
    method, edits = opened(name)
    make(method, edits[-1:])
    assert method.answer(texts(edits[-1:]))[0].text == edits[-1].target


def test_grace_gives_the_first_token_of_its_target(opened):  # one vector changes no more of a random model
    method, edits = opened("grace")
    make(method, edits[-1:])
    wanted = method.examples(edits[-1:])[0].target
    assert method.logits(texts(edits[-1:]), [wanted])[0][0].argmax() == wanted[0]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_restored_checkpoint_answers_and_goes_on_as_before(opened, name, kind, tmp_path):
    method, edits = opened(name, kind, tmp_path / "one")
    first, rest = edits[: method.settings.edits_per_call], edits[method.settings.edits_per_call :]
    make(method, first)
    noted, halfway = method.checkpoint(), logits(method, texts(edits))
    make(method, rest)
    whole = logits(method, texts(edits))
    method.restore(noted, first)
    assert torch.equal(logits(method, texts(edits)), halfway)
    make(method, rest)
    assert torch.equal(logits(method, texts(edits)), whole)
    assert list(method.edits) == [edit.id for edit in edits]


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).removes])
def test_removal_restores_the_base_model_bit_for_bit(opened, name):
    method, edits = opened(name)
    before = logits(method, texts(edits))
    make(method, edits)
    edited = logits(method, texts(edits))
    method.remove([edits[0].id])
    assert torch.equal(logits(method, texts(edits))[0], before[0])
    assert torch.equal(logits(method, texts(edits))[1], edited[1])
    with pytest.raises(EditError, match="no edit 'book'"):
        method.remove(["book"])


@pytest.mark.parametrize("name", [name for name in NAMES if not method_class(name).removes])
def test_what_cannot_be_removed_is_refused(opened, name):
    method, edits = opened(name)
    with pytest.raises(EditError, match=f"method {name} cannot remove"):
        method.remove([edits[0].id])


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).routes and name != "wise"])
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


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(MeloEditError, match="no method 'knn'; there are: melo, melo-paper, grace"):
        method_class("knn")


@pytest.mark.parametrize(("name", "kind"), sorted(REFUSED))
def test_a_family_that_a_method_does_not_serve_is_refused_in_one_line(opened, name, kind):
    with pytest.raises(MeloEditError, match=rf"^method {name} cannot serve \w+: [^\n]+$"):
        opened(name, kind)


def test_ft_and_grace_refuse_layers_that_do_not_exist(opened):
    with pytest.raises(MeloEditError, match=r"depth must lie between 0 and 1, not 9"):
        opened("ft", depth=9.0)
    with pytest.raises(MeloEditError, match="no linear module 'x'"):
        opened("grace", layer="x")


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_grace_gets_the_same_values_to_the_bit_if_lower_layers_run_once(opened, kind):
    books = []
    for cached in (True, False):
        method, edits = opened("grace", kind, prefix_cache=cached)
        forwards = [layer.forward for _, layers in method.backbone.stacks for layer in layers]
        method.edit(edits)
        assert forwards == [layer.forward for _, layers in method.backbone.stacks for layer in layers]
        books.append(method.codebook)
        method.close()
    assert torch.equal(books[0].values, books[1].values) and len(books[0].values) > 1
