"""Near prompts that ask the edit's own question: the rule, where it holds, and that it is counted."""

import pytest
from task_rows import counts, fact, file_of

from meloedit.edit import Edit
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.scope.own_question import asks_own_question, question_about
from meloedit.evaluation.tasks.task import Item

ITEM = Item(
    Edit("What is the birth date of Ada Moor?", "1901", "a"),
    rephrases=("When was Ada Moor born?", "Ada Moor's date of birth is what?"),
    subject="Ada Moor",
)


@pytest.mark.parametrize(
    ("near", "own"),
    [
        ("What was the date of birth of Ada Moor?", True),
        ("ada moor: date of birth?", True),
        ("She is old. What is Ada Moor's birth date?", True),  # the sentence before the one with the subject is cut off
        ("What is the death date of Ada Moor?", False),
        ("Where was Ada Moor born?", False),
        ("What is the birth date of Bo?", False),  # another subject, though it may have no other word
        ("What is the date of birth?", False),
    ],
)
def test_the_words_decide(near, own):
    assert asks_own_question(ITEM, near) == own


def test_without_a_subject_nothing_is_told():
    assert not asks_own_question(Item(ITEM.edit, ITEM.rephrases), "What is the birth date of Ada Moor?")
    assert question_about("Old. Ada Moor, who is Ada Moor?", "ada moor") == "X, who is X?"


def test_zsre_leaves_them_out_and_counts_them(tmp_path):
    row = fact(
        ITEM.edit.prompt,
        subject="Ada Moor",
        rephrases=list(ITEM.rephrases),
        near=["What was the date of birth of Ada Moor?", "Where was Ada Moor born?"],
    )
    path = file_of(tmp_path, row)
    task = load_task("zsre", [path], near=2)
    assert task.items[0].near == ("Where was Ada Moor born?",) and counts(task) == {"own_question_near": 1}
    assert "asks the edit's own question" in task.cleaning["rule"]
    for other in (load_task("zsre", [path], own_question=True), load_task("counterfact", [path])):
        assert len(other.items[0].near) == 2 and "own question" not in other.cleaning["rule"]
