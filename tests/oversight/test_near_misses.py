"""Near misses: what is noted, what stays pending, what a decision does, and files that a crash left."""

import os
import signal
import subprocess
import sys

import pytest
from support.prompts import FACTS, OTHERS

from meloedit.errors import EditError
from meloedit.oversight import near_misses
from meloedit.oversight.near_misses import NearMisses, is_near
from meloedit.results import Route


def route(score=None, least=0.5, edit=None, reason="judged other", distance=1.0):
    return Route(edit, distance, 1.0, "book", reason, score=score, least_score=least if score is not None else None)


@pytest.mark.parametrize(
    ("given", "near"),
    [
        (route(0.4), True),
        (route(0.6, edit="book", reason="fired"), True),
        (route(0.04), False),
        (route(0.96, edit="book", reason="fired"), False),
        (route(0.4, reason="quiet"), False),
        (route(distance=1.05, reason="outside scope"), True),
        (route(distance=0.95, edit="book", reason="fired"), True),
        (route(distance=1.2, reason="outside scope"), False),
        (Route(None, None, 1.0, None, "no edits"), False),
    ],
)
def test_what_is_near(given, near):
    assert is_near(given) is near


@pytest.fixture
def editor(make_editor, tmp_path, monkeypatch):
    monkeypatch.setattr(near_misses, "NEAR_ODDS", 1e6)
    made = make_editor(edits=FACTS, store=tmp_path / "a.melo", judge="built-in", min_similarity=0.0)
    yield made
    made.unload()


def test_a_near_miss_is_pending_until_somebody_decides(editor):
    miss = "tell me of the hand that penned the book of sand in Peru"
    answers = editor.ask([miss, *OTHERS[:1], FACTS[0].prompt])
    noted = editor.note(answers)
    editor.note(answers)
    pending = editor.near_misses()
    assert len(pending) == noted >= 1 and {item.count for item in pending} == {2}
    (first,) = [item for item in pending if item.prompt == miss]
    before = editor.store.revision
    editor.settle(first, "allow", "seen")
    assert editor.route(miss)[0].edit == first.edit and miss not in [item.prompt for item in editor.near_misses()]
    assert editor.history()[-1].detail == {"prompts": [miss], "reason": "seen"}
    editor.rollback(before)
    editor.note(editor.ask([miss]))
    (first,) = [item for item in editor.near_misses() if item.prompt == miss]
    assert editor.settle(first, "leave") == editor.store.revision
    assert miss not in [item.prompt for item in editor.near_misses()]


def test_a_decision_that_cannot_be_stored_leaves_it_pending(editor):
    NearMisses(editor.store.path).note([(FACTS[0].prompt, route(0.6, edit="book", reason="fired"))])
    (miss,) = editor.near_misses()
    with pytest.raises(EditError, match="was made for"):
        editor.settle(miss, "quiet")
    assert editor.near_misses() == [miss]
    editor.remove("book")
    assert editor.near_misses() == []


def test_lines_that_are_cut_off_or_damaged_are_skipped(tmp_path):
    notes = NearMisses(tmp_path / "a.melo")
    assert notes.pending() == []
    notes.note([("one", route(0.5))])
    with notes.path.open("ab") as stream:
        stream.write(b'[]\n{"prompt": 3, "edit": "book"}\nno json\n\xff\xfe\n' + b"[" * 60_000 + b"\n")
        for wrong in ('"score": "x"', '"score": NaN', '"time": 3', '"fired": []'):
            note = '{"prompt": "odd", "edit": "book", "fired": true, "score": 0.5, "time": "2026"'
            stream.write(f"{note}, {wrong}}}\n".encode())
        stream.write(b'{"prompt": "cut o')
    notes.note([("two", route(0.5))])
    assert [miss.prompt for miss in notes.pending()] == ["one", "two"]


def test_notes_survive_a_kill_at_any_moment(tmp_path):
    code = f"""
from meloedit.oversight.near_misses import NearMisses
from meloedit.results import Route
notes, number = NearMisses({str(tmp_path / "a.melo")!r}), 0
while True:
    number += 1
    notes.note([(f"prompt {{number}}", Route(None, 1.0, 1.0, "book", "judged other", score=0.5, least_score=0.5))])
    print(number, flush=True)
"""
    notes, seen = NearMisses(tmp_path / "a.melo"), 0
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(20):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        last = max([last, *map(int, process.communicate()[0].split())])
        counts = {miss.prompt: miss.count for miss in notes.pending()}
        seen += 1
        assert all(counts[f"prompt {n}"] >= 1 for n in range(1, last + 1)) and counts["prompt 1"] == seen


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    notes = NearMisses(tmp_path / "none" / "a.melo")
    with pytest.raises(EditError, match="cannot be written"):
        notes.note([("one", route(0.5))])
    (tmp_path / "b.melo.near.jsonl").mkdir()
    with pytest.raises(EditError, match="cannot be read"):
        NearMisses(tmp_path / "b.melo").pending()
