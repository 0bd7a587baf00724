"""Calls of the Python API with anything at all: each returns, or raises one line of the package's own errors.

More of them: ``ATTACK_COUNT=1000 pytest -m slow tests/attack/test_api.py``; other ones with ``ATTACK_SEED=7``.
"""

import collections
import inspect
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from support.prompts import BOOK, CAPITAL, LEGS, OTHERS

from meloedit import Edit, Editor, MeloConfig, PaperConfig, read_edits
from meloedit.errors import ArgumentError, MeloEditError
from meloedit.readers import read_prompts

COUNT, SEED = int(os.environ.get("ATTACK_COUNT", "1000")), int(os.environ.get("ATTACK_SEED", "0"))
QUICK = 100


class Unshowable:
    """A value that cannot be shown."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


def junk():
    """Return values of many kinds; made anew for each call, since some are used up."""
    numbers = [0, -1, 1, 3, 10**30, -(10**30), 0.5, -0.0, float("nan"), float("inf"), 1j, True, False]
    texts = ["", " ", "x", "book", "\x1b[31mred", "\ud800", "\0", "a" * 5000, "../..", "/", b"bytes", "None", "1"]
    lists = [[], (), [1], ["x"], [None], [[]], ["book", 3], [["x"]], {"x"}, range(3), iter(["x"]), [b"x"], ["\ud800"]]
    objects = [{}, {"prompt": 1}, {1: 2}, {"prompt": "x", "target": "y"}, {"prompt": "x", "target": "y", 3: 4}]
    chats = [[{"role": "user", "content": "x"}], [{"role": 3}], [{"role": "user"}], {"role": "user", "content": "x"}]
    others = [None, object(), Unshowable(), int, print, Path("nope"), torch.ones(2), np.int64(3), np.ones(2), ...]
    edits = [BOOK, LEGS, [BOOK, BOOK], [BOOK, 3], Edit("x y", "z"), MeloConfig(), NotImplemented, KeyError("x")]
    return [*numbers, *texts, *lists, *objects, *chats, *others, *edits]


JUNK = len(junk())
GOOD = {
    "prompts": BOOK.prompt,
    "edits": LEGS,
    "edit_id": "book",
    "ids": ["book"],
    "to": 2,
    "path": "copy.melo",
    "log": "log.txt",
    "save_directory": "folder",
    "lengths": [1],
    "answers": [],
    "miss": None,
    "decision": "leave",
    "progress": lambda *args: None,
    "prompt": "Is it late?",
    "target": "Jorge",
}
LEFT_OUT = {
    "unload",  # ends the editor
    "push_to_hub",  # asks the network
    "generate_model_card",
    "model",
    "calibrate",  # below: it takes long where it is right
    "generate",
}
GENERATE = ["max_new_tokens", "num_beams", "temperature", "do_sample", "top_k", "eos_token_id", "no_such", "form"]


def calls(editor):
    """Return the functions to call, by name; each takes arguments by name."""
    found = {
        name: getattr(editor, name)
        for name, member in inspect.getmembers(Editor)
        if inspect.isfunction(member) and not name.startswith("_") and name not in LEFT_OUT
    }
    found["create"] = lambda **given: Editor.create(**{"model": editor.model, "tokenizer": editor.tokenizer} | given)
    found["from_pretrained"] = Editor.from_pretrained
    found["Editor"] = lambda **given: Editor(**{"model": editor.model, "tokenizer": editor.tokenizer} | given)
    found["calibrate"] = lambda **given: editor.calibrate(**{"prompts": ["x"]} | given)
    found["__getitem__"] = lambda edit_id: editor[edit_id]
    found["__contains__"] = lambda edit_id: edit_id in editor
    found["generate"] = editor.generate
    found["ask_with"] = lambda **given: editor.ask(OTHERS[2], **{"max_new_tokens": 2} | given)
    found |= {"Edit": Edit, "from_dict": Edit.from_dict, "read_edits": read_edits, "read_prompts": read_prompts}
    found |= {"MeloConfig": MeloConfig, "config": MeloConfig.from_dict, "PaperConfig": PaperConfig}
    found |= {"preset": PaperConfig.from_preset, "paper": PaperConfig.from_dict}
    return found


def parameters(name, function):
    """Return the names of what a function takes."""
    if name == "ask_with":
        return GENERATE
    if name == "generate":
        return ["inputs", "input_ids", "attention_mask", *GENERATE[1:-1]]
    if name in ("create", "Editor"):
        return ["model", "tokenizer", "config", "store", "name"]
    if name == "calibrate":
        return ["prompts", "origin", "false_activation", "min_similarity", "false_neighbour", "judge", "progress"]
    kinds = inspect.signature(function).parameters
    return [
        key for key, one in kinds.items() if key != "self" and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]


def required(function):
    named = inspect.signature(function).parameters.items()
    ours = {key for key, one in named if one.default is one.empty and one.kind == one.POSITIONAL_OR_KEYWORD}
    return ours - {"self"}


@pytest.fixture(scope="module")
def victim(make_editor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("victim")
    editor = make_editor(edits=[BOOK, CAPITAL], store=folder / "facts.melo")
    before = Path.cwd()
    os.chdir(folder)
    patch = pytest.MonkeyPatch()
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Path("log.txt").write_text("Is it late?\nWho wrote the book of sand?\n")
    yield editor
    patch.undo()
    os.chdir(before)
    editor.unload()


def attack(pick, editor, tally):
    """Make one call with arguments of which some fit and some do not; ``pick(n)`` chooses a number below n."""
    found = calls(editor)
    name = sorted(found)[pick(len(found))]
    function = found[name]
    names, needed, given = parameters(name, function), required(function), {}
    for key in {*needed, *(names[pick(len(names))] for _ in range(pick(4)) if names)}:
        kept = key in GOOD and (pick(2) if key in needed else not pick(4))
        given[key] = GOOD[key] if kept else junk()[pick(JUNK)]
    try:
        made = function(**given)
        if inspect.isgenerator(made):
            list(made)
        if isinstance(made, Editor) and made is not editor:  # some calls return the editor itself
            made.unload()
        tally["returned"] += 1
    except MeloEditError as error:
        assert "\n" not in str(error) and str(error), (name, repr(str(error)))
        tally["refused"] += 1


def run(editor, count, number):
    tally = collections.Counter()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def attacked(data):
        attack(lambda below: data.draw(st.integers(0, below - 1)), editor, tally)

    attacked()
    return tally


def test_wrong_calls_end_in_one_line(victim):
    tally = run(victim, QUICK, 0)
    assert tally["refused"] > QUICK / 3 and tally["returned"] > QUICK / 20
    still_right(victim)


@pytest.mark.slow
def test_many_wrong_calls_end_in_one_line(victim):
    tally = run(victim, COUNT, SEED)
    print(  # noqa: T201
        f"\n{sum(tally.values()):,} calls (seed {SEED}): {dict(tally)}, 0 outside the error family"
    )
    still_right(victim)


def still_right(editor):
    """The editor is as good as before."""
    editor.edit([BOOK, CAPITAL], replace=True)
    editor.enable(["book", "capital"])
    assert [answer.route.edit for answer in editor.ask([BOOK.prompt, CAPITAL.prompt])] == ["book", "capital"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: e.edit(LEGS, replace="x"), "replace must be true or false, not 'x'"),
        (lambda e: e.edit(LEGS, edits_per_block=1.5), "edits_per_block must be an integer or None, not 1.5"),
        (lambda e: e.ask("x", form="html"), "form must be 'chat', 'raw' or None, not 'html'"),
        (lambda e: e.ask("x", batch_size=True), "batch_size must be an integer, not True"),
        (lambda e: e.remove(["book", 3]), r"ids must be a string or a list of strings, not \['book', 3\]"),
        (lambda e: e.history(limit="3"), "limit must be an integer or None, not '3'"),
        (lambda e: e.rollback("1"), "to must be an integer, not '1'"),
        (lambda e: e.quiet("book", "x", reason=None), "reason must be a string, not None"),
        (lambda e: e.save(3), "path must be a string or a path, not 3"),
        (lambda e: e.calibrate(false_activation="much"), "false_activation must be a number or None, not 'much'"),
        (lambda e: e.scan("log.txt", note="no"), "note must be true or false, not 'no'"),
        (lambda e: e.check(progress=int), "progress must be a function or None, not <class 'int'>"),
        (lambda e: e.note([3]), r"answers must be a list of Answers, not \[3\]"),
        (lambda e: e.settle("x", "leave"), "miss must be a NearMiss, not 'x'"),
        (lambda e: Editor.from_pretrained(3), "store must be a string or a path, not 3"),
        (lambda e: Editor.create(e.model, e.tokenizer, name=3), "name must be a string or None, not 3"),
        (lambda e: e.neighbours(Unshowable()), "edit_id must be a string, not a Unshowable"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named_with_its_value_and_what_would_do(call, words, victim):
    revision = victim.store.revision
    with pytest.raises(ArgumentError, match=f"^{words}$") as error:
        call(victim)
    assert isinstance(error.value, TypeError | ValueError) and victim.store.revision == revision


def test_arguments_of_generate_that_do_not_fit_are_one_line(victim):
    for wrong in ({"num_beams": "x"}, {"no_such": 1}, {"temperature": -1.0, "do_sample": True}):
        with pytest.raises(MeloEditError, match=rf"^generate cannot run with these arguments \({next(iter(wrong))}"):
            victim.ask("Is it late?", **wrong)
    with pytest.raises(MeloEditError, match=r"^generate cannot run with these arguments \(argument 1\)"):
        victim.generate("Is it late?")
