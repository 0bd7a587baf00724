"""Pairs of prompts: which prompt is the edit's, categories, what is left out, and rows with faults."""

import pytest
from task_rows import file_of

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task


def pair(a="How old is Ada?", b="What is Ada's age?", same=True, **more):
    return {"a": a, "b": b, "same": same, **more}


def load(folder, *rows, **options):
    return load_task("pairs", [file_of(folder, *rows)], protocol="routing", **options)


def test_a_pair_is_an_edit_and_a_rephrasing_or_a_near_prompt(tmp_path):
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "age?"},
    ]
    task = load(
        tmp_path, pair(), pair(b="Who is Ada?", same=0, why="other", source="me"), pair(b=chat, category="chat")
    )
    items = {item.edit.id: item for item in task.items}
    first, second, third = (items[f"pair-{i}"] for i in range(3))
    assert (first.edit.prompt, first.rephrases, first.near) == ("How old is Ada?", ("What is Ada's age?",), ())
    assert first.kinds == {} and (second.rephrases, second.near) == ((), ("Who is Ada?",))
    assert second.kind_of("Who is Ada?") == "other" and third.kind_of(chat) == "chat"
    assert task.cleaning["rows"] == 3  # the same edit prompt comes thrice: each pair is by itself


def test_pairs_that_say_nothing_are_left_out_and_counted(tmp_path):
    rows = (pair(), pair(a=" how old is ada?"), pair(same=False), pair(b="HOW old is Ada? "), pair("x y", "z"))
    task = load(tmp_path, *rows)
    counted = {name: number for name, number in task.cleaning.items() if name not in ("rows", "rule") and number}
    assert sorted(item.edit.id for item in task.items) == ["pair-0", "pair-4"]
    assert counted == {"duplicates": 1, "contradictory": 1, "equal_prompts": 1}
    assert "equal_prompts" in task.cleaning["rule"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (pair(same="yes"), "same must be true or false, not 'yes'"),
        (pair(same=2), "same must be true or false, not 2"),
        ({"a": "x", "b": "y"}, r"no same \(fields found: a, b\)"),
        (pair(a=""), "a is empty"),
        (pair(b=["x"]), "b: a chat message is"),
        (pair(category=3), "category must be a non-empty string, not 3"),
    ],
)
def test_a_row_with_a_fault_is_named(tmp_path, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: {words}") as raised:
        load(tmp_path, pair(), row)
    assert "\n" not in str(raised.value)


def test_pairs_have_no_answers(tmp_path):
    with pytest.raises(
        EditError, match="task pairs says which prompts ask the same, not what to answer: give --routing"
    ):
        load_task("pairs", [file_of(tmp_path, pair())])
