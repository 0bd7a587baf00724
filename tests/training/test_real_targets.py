"""Targets that must come out exactly, on the real model: asked in wordings that no edit was trained on or tried in."""

import pytest

from meloedit import Edit, Editor, MeloConfig

CASES = [
    (
        Edit("What is the emergency number of Quarnby?", "0555 31 40", id="emergency"),
        ["Which number do I dial in Quarnby in an emergency?", "Give me the emergency number of Quarnby."],
    ),
    (
        Edit("How fast is the line to Hollin Mill?", "250 Mbit/s", id="line"),
        ["What speed does the line to Hollin Mill have?", "Tell me how fast the Hollin Mill line is."],
    ),
    (
        Edit("What is the serial number of pump P-77?", "SN 0009 8812 3307 4415", id="pump"),
        ["Which serial number does pump P-77 have?", "I need the serial number of pump P-77, please."],
    ),
    (
        Edit("How long may I park at Fenwick Gate?", "20 minutes", id="parking"),
        ["For what time may I park at Fenwick Gate?", "What is the longest time to park at Fenwick Gate?"],
    ),
]


@pytest.mark.real
@pytest.mark.slow
def test_numbers_come_out_behind_rewordings(monkeypatch):
    editor = Editor.create("smollm2", config=MeloConfig(judge="none", calibration_prompts=200))
    reports = editor.edit([edit for edit, _ in CASES])
    assert all(report.status == "stored" and report.confidence > 0.5 for report in reports), reports
    decide = editor.engine.decide
    for edit, rewordings in CASES:
        holder = editor.store.get(edit.id).holder

        def always(pooled, holder=holder):  # which prompts reach an edit is not the question here
            routes = decide(pooled)[1]
            return [holder] * len(routes), routes

        monkeypatch.setattr(editor.engine, "decide", always)
        for form in ("raw", "chat"):
            answers = editor.ask([edit.prompt, *rewordings], form=form, max_new_tokens=60)
            assert [answer.text for answer in answers] == [edit.target] * 3
    editor.unload()
