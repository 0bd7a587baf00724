"""KnowEdit's files: each form, the kinds of their tests, and rows that are unusable."""

import json

import pytest
from portable_rows import CHANGED, RECENT, WIKIBIO, ZSRE
from task_rows import by_id, file_of

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.evaluation.tasks.task import Question


def only(tmp_path, row):
    (item,) = load_task("knowedit", [file_of(tmp_path, row)]).items
    return item


def test_a_recent_fact_has_no_true_answer_and_questions_of_three_kinds(tmp_path):
    item = only(tmp_path, RECENT)
    assert (item.edit.prompt, item.edit.target, item.subject) == (RECENT["prompt"], "Bern", "Ada Moor")
    assert item.edit.subject == "Ada Moor" and item.rephrases == ()
    assert item.portability == (
        Question("Is Ada Moor still alive?", ("no", "is dead"), kind="logical generalization"),
        Question("The continent of Ada Moor's place of death is", ("Europe", "EU"), kind="reasoning"),
        Question("The place of death of A. Moor is", ("Bern", "Bern (Switzerland)"), kind="subject aliasing"),
    )  # the one with an empty answer cannot be scored
    assert item.near == ("The father of Ada Moor is",)


def test_near_prompts_have_the_kind_of_their_test(tmp_path):
    item = only(tmp_path, CHANGED)
    specific, other = "The gender of Cy Lund is", "The position held by Cy Lund, not the abbot's, is"
    assert item.near == (specific, other)
    assert (item.kind_of(specific), item.kind_of(other)) == ("relation specificity", "forgetfulness")


def test_zsre_rows_bring_rephrasings_and_wikibio_rows_other_names(tmp_path):
    assert only(tmp_path, ZSRE).rephrases == ("What family are Epa?",)
    item = only(tmp_path, WIKIBIO)
    assert (item.edit.prompt, item.edit.target, item.subject) == (WIKIBIO["text"], WIKIBIO["labels"], "di kerr")
    assert item.near == ("The field of work of di kerr is",) and item.portability == ()


def test_the_files_are_lists_and_can_be_given_together(tmp_path):
    paths = []
    for name, row in (("recent", RECENT), ("cf", CHANGED), ("zsre", ZSRE), ("bio", WIKIBIO)):
        paths.append(str(tmp_path / f"{name}.json"))
        (tmp_path / f"{name}.json").write_text(json.dumps([row], indent=4))
    task = load_task("knowedit", paths)
    assert len(task.items) == 4 and list(by_id(task)) == sorted(by_id(task), key=list(by_id(task)).index)
    assert {file["rows"] for file in task.files} == {1} and task.kind == "question"
    assert task_of(paths[0]) == "knowedit"


def test_an_edit_that_is_true_already_goes(tmp_path):
    task = load_task("knowedit", [file_of(tmp_path, CHANGED, ZSRE | {"target_new": "Aspi"})])
    assert len(task.items) == 1 and task.cleaning["no_op"] == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (RECENT | {"target_new": ""}, "target_new must be a non-empty string"),
        ({name: RECENT[name] for name in RECENT if name != "subject"}, "no subject"),
        (RECENT | {"locality": ["x"]}, "locality: expected an object, not list"),
        (RECENT | {"locality": {"Relation_Specificity": [{"ground_truth": "x"}]}}, "no prompt"),
        (RECENT | {"portability": {"Reasoning": ["x"]}}, "Reasoning: expected an object, not str"),
        (RECENT | {"portability": {"Reasoning": [{"prompt": "x", "ground_truth": [3]}]}}, "ground_truth must be"),
        (WIKIBIO | {"labels": None}, "no labels|no target_new"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_row(tmp_path, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: .*({words})") as raised:
        load_task("knowedit", [file_of(tmp_path, ZSRE, row)])
    assert "\n" not in str(raised.value)


def test_other_parts_of_knowedit_are_refused(tmp_path):
    row = {"success": [{"question": "Who?", "ground_truth": "Ann", "target_new": "I don't know."}], "locality": []}
    with pytest.raises(EditError, match=r"line 1: .* for task knowedit; its fields \(success, locality\) fit no task"):
        load_task("knowedit", [file_of(tmp_path, row)])
