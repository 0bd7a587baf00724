"""Cleaning: which edits and prompts are left out, and how they are counted."""

import pytest
from task_rows import NQ, by_id, counts, fact, file_of, ids

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task


def test_edits_that_say_nothing_new_or_the_contrary_are_dropped(tmp_path):
    rows = (
        fact("Who?", "Ann", subject="Ada", target_true="Bo"),
        fact(" who? ", "ann"),  # a duplicate
        fact("When?", " BO", target_true=["Cy", "Bo "]),  # true already
        fact("WHO?", "Di"),  # the first row's prompt
        fact("Who is it?", "Di", subject="ada", target_true="bo"),  # the first row's fact
        fact("Who else?", "Di", subject="Ada", target_true="Ed"),
        fact("Who was it?", "ann", subject="Ada", target_true="Bo"),  # another wording of the first
        fact("When?", "Flo"),  # what was dropped is no earlier edit
    )
    task = load_task("zsre", [file_of(tmp_path, *rows)])
    assert sorted(ids(task)) == ["zsre-0", "zsre-5", "zsre-6", "zsre-7"]
    assert counts(task) == {"duplicates": 1, "no_op": 1, "contradictory": 2}
    assert task.cleaning["rows"] == 8 and task.cleaning["rule"]
    assert load_task("counterfact", [file_of(tmp_path, rows[2])], protocol="paper").items  # the truth is what it wants
    with pytest.raises(EditError, match=r"task zsre: no edit is left of 1 \(rows\.jsonl\)"):
        load_task("zsre", [file_of(tmp_path, rows[2])])


def test_rephrasings_that_ask_for_two_targets_are_left_out_of_both(tmp_path):
    rows = (
        fact("Who?", "Ann", rephrases=["Shared?", "own one?", "WHO?", "Own One?", "Same?", "Where?"]),
        fact("Where?", "Rome", rephrases=["shared? ", "Mine?"]),
        fact("Who is it?", "ann", rephrases=["Same?"]),
        fact("who?", "Dropped", rephrases=["Mine?"]),
    )
    task = load_task("zsre", [file_of(tmp_path, *rows)])
    items = by_id(task)
    assert items["zsre-0"].rephrases == ("own one?", "Same?")
    assert items["zsre-1"].rephrases == ("Mine?",) and items["zsre-2"].rephrases == ("Same?",)
    assert counts(task) == {"contradictory": 1, "ambiguous_rephrases": 3, "repeated_rephrases": 2}


def test_near_and_far_prompts_that_are_asked_of_an_edit_are_left_out(tmp_path):
    rows = (
        fact("Who was first?", "Ann", rephrases=["Shared?"], near=["where? ", "SHARED?", "When?", "Odd?"]),
        fact("Where?", "Rome", rephrases=["Shared?"], near=["Who was first?"]),
        fact("where?", "Oslo", rephrases=["Odd?"]),
    )
    task = load_task("zsre", [file_of(tmp_path, *rows), file_of(tmp_path, NQ, name="nq.jsonl")])
    assert by_id(task)["zsre-0"].near == ("When?", "Odd?") and by_id(task)["zsre-1"].near == ()
    assert [(far.prompt, far.kind) for far in task.far] == [("who was first", "nq")]
    assert counts(task) == {"contradictory": 1, "ambiguous_rephrases": 2, "ambiguous_near": 3, "ambiguous_far": 1}
