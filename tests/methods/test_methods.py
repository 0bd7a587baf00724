"""The protocol, which every method keeps, on tiny models of the three kinds."""

import pytest
import torch
from support.prompts import OTHERS, SETTINGS, source_edits

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.methods import METHODS, free_memory, method_class
from meloedit.testing import checks, training_edits

KINDS = ("llama", "t5", "bert")
CAUSAL = ("rome", "memit", "alphaedit", "wise")
REFUSED = {("ultraedit", "bert"), ("tpatcher", "bert"), *((name, kind) for name in CAUSAL for kind in ("t5", "bert"))}
NAMES = tuple(name for name in METHODS if name not in ("rag", "ike"))  # test_rag.py, test_ike.py, test_real_methods.py
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
    "cmr": {"lr": 5e-3, "epochs": 8, "edits_per_call": 2, "variant": "er+ewc+l2", "replay_size": 4, "upstream_size": 2},
    "ultraedit": {"lr": 0.1, "batch_size": 2, "edits_per_call": 2},
    "mend": LEARNED | {"rank": 8, "edit_lr": 1e-2, "layers": 2},
    "serac": LEARNED | {"lr": 3e-3, "scale": 12.0, "threshold": 0.65, "layers": 2},
    "rome": LOCATED,
    "memit": LOCATED | {"layers": 2, "mom2_update_weight": 1.0, "edits_per_call": 2},
    "alphaedit": LOCATED | {"layers": 2, "nullspace_threshold": 1.0, "L2": 0.1, "edits_per_call": 2},
    "tpatcher": {"memory_size": 60, "val_memory_size": 20, "max_edit_step": 40, "start_val_epoch": 20, "lr": 0.2},
    "calinet": {"ex_size": 8, "max_steps": 30, "lr": 0.05, "edits_per_call": 2},
    "none": {},
}
BRIEF = {
    "melo-paper": {"steps": 15},
    "grace": {"n_iter": 10},
    "lora": {"steps": 8},
    "ft": {"passes": 12},
    "locft": {"passes": 8},
    "cmr": {"epochs": 3},
    "tpatcher": {"max_edit_step": 12, "start_val_epoch": 6},
    "calinet": {"max_steps": 10},
}
"""Fewer steps, for what does not ask whether an edit is answered: they change what a model says."""
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

    def open_it(name, kind="llama", folder=None, brief=True, **changes):
        if kind == "llama":
            model, reader, edits = make_model("llama"), tokenizer, QUESTIONS
        else:
            (model, reader), edits = make_source(kind), source_edits(kind)[:3]
        if name == "grace" and kind != "llama":  # a classifier reads its first token
            changes |= {"replacement": "replace_prompt"}
        if name == "serac":
            changes |= {"encoder": tiny_encoder}
        changes = BRIEF.get(name, {}) | changes if brief else changes
        method = method_class(name)(model, reader, QUICK[name] | changes, folder)
        method.fit(training_edits(kind))
        method.prepare([])
        methods.append(method)
        return method, list(edits)

    yield open_it
    for method in methods:
        method.close()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_edits_change_answers_and_reset_and_close_bring_the_model_back(opened, name, kind):
    method, edits = opened(name, kind)
    scoped = method.routes and name != "wise"
    checks.check_edits_and_way_back(method, edits, OTHERS, changes=name != "none", scoped=scoped)
    assert not any("lora" in key for key, _ in method.model.named_modules())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNHELD])
def test_what_was_edited_is_answered(opened, name):
    method, edits = opened(name, brief=False)
    checks.check_answers(method, edits[-1])


def test_grace_gives_the_first_token_of_its_target(opened):  # one vector changes no more of a random model
    method, edits = opened("grace", brief=False)
    checks.make(method, edits[-1:])
    wanted = method.examples(edits[-1:])[0].target
    assert method.logits([edits[-1].prompt], [wanted])[0][0].argmax() == wanted[0]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_restored_checkpoint_answers_and_goes_on_as_before(opened, name, kind, tmp_path):
    checks.check_goes_on(*opened(name, kind, tmp_path / "one"))


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).removes])
def test_removal_leaves_no_trace_if_the_method_says_so(opened, name):
    checks.check_removal(*opened(name))


@pytest.mark.parametrize("name", [name for name in NAMES if not method_class(name).removes])
def test_what_cannot_be_removed_is_refused(opened, name):
    checks.check_removal(*opened(name))


@pytest.mark.parametrize("name", [name for name in NAMES if method_class(name).routes and name != "wise"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_answered_as_its_prompts_one_by_one(opened, name, kind):
    checks.check_batches(*opened(name, kind), OTHERS)


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(MeloEditError, match="no method 'knn'; there are: melo, melo-paper, grace"):
        method_class("knn")


@pytest.mark.parametrize(("name", "kind"), sorted(REFUSED))
def test_a_family_that_a_method_does_not_serve_is_refused_in_one_line(opened, name, kind):
    with pytest.raises(MeloEditError, match=rf"^method {name} cannot serve \w+: [^\n]+$"):
        opened(name, kind)


@pytest.mark.parametrize("name", ["ft", "locft", "wise", "lora", "calinet", "cmr", "ultraedit", "tpatcher"])
def test_more_memory_than_there_is_is_said_before_any_work(opened, monkeypatch, name):
    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 1000)
    with pytest.raises(MeloEditError, match=rf"^method {name} needs about \S+ \S+ for [^\n]+, and 1.0 kB are free$"):
        opened(name)[0].check()


@pytest.mark.parametrize("name", ["lora", "cmr"])
def test_float16_which_training_breaks_is_refused(make_model, tokenizer, name):
    with pytest.raises(MeloEditError, match=rf"^method {name} cannot train a model of float16: load it as float32 "):
        method_class(name)(make_model("llama").half(), tokenizer)
    method_class(name)(make_model("llama").bfloat16(), tokenizer).close()


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
