"""Trials: the neighbours that are made, what is warned of, what is silenced, and what --strict refuses."""

import pytest
from support.prompts import EDITS, FACTS

from meloedit import Edit
from meloedit.judging.judge import Judge
from meloedit.trying.neighbourhood import Neighbourhood, changed_words, content_words, name_in, shipped

JUDGED = {"judge": "built-in", "min_similarity": 0.0}
CLOSE = Edit("What time does the Alder Street library close on weekdays?", "at eight", id="close")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("How long is the return window for the Halden V40 robot vacuum?", "Halden V40"),
        ("What does the University of Greyfell charge?", "University of Greyfell"),
        ("Does Marfield vegan gravy contain gluten?", "Marfield"),
        ("How do I reset my password?", None),
        ("Who leads Ohm?", "Ohm"),
        ("Was kostet der Eintritt ins Museum?", "Eintritt"),
        ("", None),
        ("???", None),
    ],
)
def test_the_name_in_a_prompt(prompt, name):
    assert name_in(prompt) == name


def test_one_thing_is_changed():
    made = {one.kind: one.prompt for one in changed_words("Can I book the first train of 2024 to Velmora?", "Velmora")}
    assert "last train" in made["opposite"] and "2025" in made["number"] and "Can I not book" in made["negation"]
    assert made["qualifier"].endswith("customers?") and "Velmora " in made["other name"]


def test_neighbours_differ_from_the_edit_and_from_each_other():
    made = Neighbourhood().made(CLOSE.prompt, 16)
    prompts = [one.prompt for one in made]
    assert len(prompts) == len(set(prompts)) == 16 and CLOSE.prompt not in prompts
    assert any("Alder Street" in one.prompt and one.kind == "other question" for one in made)
    assert Neighbourhood().made("", 16) == [] and Neighbourhood().made("?!", 16) == []
    assert content_words("What is the x of a key?") == {"key"}


def test_the_written_questions_are_read_once_for_all_editors(make_editor):
    trials = [make_editor(**JUDGED).engine.mode._trials for _ in range(2)]
    assert trials[0]._neighbourhood is trials[1]._neighbourhood is shipped()


@pytest.fixture
def editor(make_editor):
    made = make_editor(edits=FACTS, **JUDGED)
    yield made
    made.unload()


def always(monkeypatch, score):
    """Let the judge give every pair a score."""
    import torch

    monkeypatch.setattr(Judge, "scores", lambda self, prompts, wordings: torch.full((len(prompts),), score))


def test_what_would_fire_is_named_silenced_and_refused(editor, monkeypatch):
    always(monkeypatch, editor.engine.policy.verifier.judge.greatest_near - 0.1)
    (trial,) = editor.trial(CLOSE)
    assert trial.warned and trial.reached and trial.silenced
    assert {one.kind for one in trial.neighbours if one.prompt in trial.silenced} <= {
        "opposite", "number", "negation", "qualifier", "other name"
    }  # fmt: skip
    (report,) = editor.edit(CLOSE, strict=True, keep_both=True)
    assert report.status == "failed" and "would get its answer" in report.reason and "close" not in editor
    (report,) = editor.edit(CLOSE, keep_both=True)
    assert report.status == "stored" and report.trial.to_dict() == trial.to_dict()
    assert list(editor["close"].edit.quiet) == trial.silenced and editor["close"].given == CLOSE
    (report,) = editor.edit(CLOSE, keep_both=True)
    assert report.status == "skipped" and report.trial is None
    (report,) = editor.edit(Edit(CLOSE.prompt, "at nine", id="close"), replace=True, trial=False)
    assert report.trial.neighbours == []


def test_an_edit_that_nothing_reaches_is_stored_as_it_is(editor, monkeypatch):
    always(monkeypatch, -20.0)
    (report,) = editor.edit(CLOSE, strict=True)
    assert report.status == "stored" and not report.trial.warned and report.trial.sentence == ""
    assert editor["close"].edit == CLOSE


def test_without_a_judge_nothing_is_asked(make_editor):
    editor = make_editor(edits=EDITS[:1])
    assert editor.trial([CLOSE, EDITS[0]])[0].neighbours == []
    (report,) = editor.edit(CLOSE, strict=True)
    assert report.status == "stored"
