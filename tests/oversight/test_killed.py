"""kill -9 at random moments of the operator's commands: nothing is lost, what is stored is whole."""

import json
import random

import pytest
from support.prompts import FACTS, OTHERS
from support.store_cases import killed_midway, posix

from meloedit.oversight import scanning
from meloedit.oversight.near_misses import NearMisses
from meloedit.results import Route
from meloedit.store import Store

KILLS = [3, pytest.param(50, marks=pytest.mark.slow)]


@pytest.fixture
def editor(make_editor, tmp_path):
    made = make_editor(edits=FACTS, store=tmp_path / "a.melo", judge="built-in", min_similarity=0.0)
    yield made
    made.unload()


def reopened(editor):
    """Let the editor follow what a killed process stored."""
    editor.engine.store = editor.store = Store.open(editor.store.path)
    editor.engine._refresh()
    return editor.store


@posix
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("action", ["quiet", "allow", "settle"])
def test_a_killed_correction_is_stored_whole_or_not_at_all(editor, action, kills):
    chance = random.Random(5)

    def correct(number):
        prompt = f"Which shelf has copy {number} of revision {editor.store.revision}?"
        if action == "settle":
            NearMisses(editor.store.path).note([(prompt, Route("book", 1.0, 1.0, "book", "fired"))])
            editor.settle(editor.near_misses()[0], "quiet")
        else:
            getattr(editor, action)("book", prompt)

    field = "variants" if action == "allow" else "quiet"
    had = 0
    for kill in range(1, kills + 1):
        with killed_midway(correct, chance):
            store = reopened(editor)
            assert store.verify() == [] and [stored.edit.id for stored in store.edits()] == ["capital", "legs", "book"]
            prompts = getattr(store.get("book").edit, field)
            assert had <= len(prompts) == store.revision - 3 and store.get("book").given == FACTS[0]
            had = len(prompts)
            if action == "settle":
                pending = {miss.prompt for miss in editor.near_misses()}
                assert len(pending - set(prompts)) <= kill  # noted, and killed before the decision
    assert editor.route(FACTS[0].prompt)[0].edit == "book"
    editor.rollback(3)
    assert editor["book"].edit == FACTS[0]


@posix
@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_scan_goes_on_to_the_same_report(editor, tmp_path, monkeypatch, kills):
    monkeypatch.setattr(scanning, "LINES_AT_ONCE", 3)
    chance = random.Random(6)
    log, record = tmp_path / "log.jsonl", tmp_path / "part.jsonl"
    texts = [f"{fact.prompt} {number}" for number in range(kills * 4) for fact in (*FACTS,)] + OTHERS
    log.write_text("".join(json.dumps(text) + "\n" for text in texts))
    whole = editor.scan(log, record=tmp_path / "whole.jsonl")
    for _ in range(kills):
        with killed_midway(lambda number: editor.scan(log, record=record), chance):
            assert record.exists()
    assert editor.scan(log, record=record).to_dict() | {"record": ""} == whole.to_dict() | {"record": ""}


@posix
@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_edit_with_its_trial_is_stored_whole_or_not_at_all(editor, kills):
    chance = random.Random(7)

    def make(number):
        name = f"{editor.store.revision}-{number}"
        editor.edit({"prompt": f"What is the number of house {name}?", "target": "nine", "id": name}, keep_both=True)

    had = 3
    for _ in range(kills):
        with killed_midway(make, chance):
            store = reopened(editor)
            assert store.verify() == [] and had < len(store.edits()) == store.revision
            had = len(store.edits())
