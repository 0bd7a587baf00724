"""The questions of a help desk: kinds, languages, conversations, unrelated prompts, and rows with faults."""

import pytest
from task_rows import counts, file_of

from meloedit.edit import prompt_key
from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.scope.helpdesk import kinds_by_place

CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "and how long is the warranty of the Lux 3?"},
]
PRONOUN = [*CHAT[:2], {"role": "user", "content": "And its warranty?"}]
ROW = {
    "id": "a",
    "domain": "lamps",
    "lang": "en-GB",
    "prompt": "How long is the warranty of the Lux 3?",
    "target": "two years",
    "subject": "Lux 3",
    "rephrasings": ["Warranty period of the Lux 3?", "For how long is it covered?", "It broke. Now?", "lux 3 warranty"],
    "near_same_subject": ["What bulb?", "How heavy?", "Which colours?"],
    "near_same_relation": ["How long is the warranty of the Lux 30?"],
    "multi_turn": CHAT,
    "pronoun_turn": PRONOUN,
    "pronoun_turn_hard": True,
    "expected": "fire",
}


def test_prompts_have_the_kinds_of_their_fields_and_places(tmp_path):
    (item,) = load_task("helpdesk", [file_of(tmp_path, ROW)]).items
    assert (item.edit.id, item.edit.target, item.subject, item.lang) == ("a", "two years", "Lux 3", "en")
    assert item.rephrases == tuple(ROW["rephrasings"])
    assert [item.kind_of(prompt) for prompt in item.rephrases] == ["close", "close", "far", "terse"]
    near = [(prompt, item.kind_of(prompt)) for prompt in item.near]
    assert near == [
        ("What bulb?", "same subject hard"),
        ("How heavy?", "same subject hard"),
        ("Which colours?", "same subject easy"),
        ("How long is the warranty of the Lux 30?", "same relation"),
    ]
    assert item.chats == (CHAT, PRONOUN) and [item.kind_of(chat) for chat in item.chats] == ["chat", "pronoun"]
    assert item.kind_of(item.edit.prompt) is None


@pytest.mark.parametrize(
    ("count", "kinds"),
    [
        (0, ""),
        (1, "close"),
        (3, "close close far"),
        (4, "close close far terse"),
        (5, "close close far far terse"),
        (6, "close close far far terse other_form"),
        (8, "close close far far far far terse other_form"),
    ],
)
def test_kinds_by_place(count, kinds):
    assert [kind.replace(" ", "_") for kind in kinds_by_place(count)] == kinds.split()


def test_rows_may_have_conversations_and_further_fields(tmp_path):
    other = [*CHAT[:2], {"role": "user", "content": "Thanks, that is all."}]
    row = {
        "prompt": CHAT,
        "target": "two years",
        "rephrasings": ["a?", PRONOUN],
        "rephrasing_kinds": ["terse", "far"],
        "near_same_subject": [other],
        "contains": ["Translate: How long is the warranty?"],
        "asks_inside": ["Dear all, how long is it? Regards"],
        "chat_same": [[*CHAT[:2], {"role": "user", "content": "And for how long?"}]],
        "chat_other": [[*CHAT[:2], {"role": "user", "content": "Never mind."}]],
    }
    (item,) = load_task("helpdesk", [file_of(tmp_path, row)]).items
    assert item.edit.prompt == CHAT and item.edit.id == "helpdesk-0" and (item.lang, item.subject) == (None, None)
    assert [item.kind_of(prompt) for prompt in item.rephrases] == ["terse", "far", "asks inside"]
    assert [item.kind_of(prompt) for prompt in item.near] == ["same subject hard", "contains", "other chat"]
    assert item.near[0] == other and [item.kind_of(prompt) for prompt in item.chats] == ["chat"]
    assert set(item.kinds) >= {prompt_key(other), prompt_key(PRONOUN)}


def test_unrelated_prompts_are_lines_of_text_or_rows(tmp_path):
    text = tmp_path / "unrelated.txt"
    text.write_text("Hi.\n\n  Write a poem. Make it short.  \n")
    rows = file_of(tmp_path, {"prompt": "Tell me a joke", "id": 7}, {"prompt": CHAT}, name="unrelated.jsonl")
    nq = file_of(tmp_path, {"question": "who was first", "answer": ["Ann"]}, name="nq.jsonl")
    task = load_task("helpdesk", [file_of(tmp_path, ROW), str(text), rows, nq])
    unrelated = [far.prompt for far in task.far if far.kind == "unrelated"]
    assert sorted(map(str, unrelated)) == sorted(["Hi.", "Write a poem. Make it short.", "Tell me a joke", str(CHAT)])
    assert {far.kind for far in task.far} == {"unrelated", "nq", "nq dressed"}
    assert [file["role"] for file in task.files] == ["edits", "far", "far", "far"]


def test_near_prompts_that_an_edit_is_asked_with_are_left_out(tmp_path):
    other = {"prompt": "What bulb?", "target": "E14", "rephrasings": [], "id": "b"}
    task = load_task("helpdesk", [file_of(tmp_path, ROW, other)])
    assert counts(task) == {"ambiguous_near": 1}
    named = {**ROW, "near_same_subject": ["How is the Lux 3?"]}  # all words are the edit's: it stays in this task
    assert len(load_task("helpdesk", [file_of(tmp_path, named)]).items[0].near) == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Who?", "target": "x"}, r"no rephrasings \(fields found: prompt, target\)"),
        (ROW | {"target": 3}, "target must be a non-empty string, not 3"),
        (ROW | {"prompt": 3}, "prompt must be a string or a non-empty list of chat messages, not int"),
        (ROW | {"rephrasings": "one"}, "rephrasings must be a list of prompts, not 'one'"),
        (ROW | {"rephrasings": ["a", ""]}, r"rephrasings\[1\] is empty"),
        (ROW | {"rephrasing_kinds": ["close"]}, "4 rephrasings and 1 rephrasing_kinds"),
        (ROW | {"near_same_subject": [3]}, r"near_same_subject\[0\] must be a string or a non-empty list"),
        (ROW | {"near_same_subjects": ["When?"]}, r"unknown field 'near_same_subjects' \(did you mean 'near_same_sub"),
        (ROW | {"multi_turn": CHAT[:2]}, "multi_turn: the last chat message must be the user's"),
        (ROW | {"pronoun_turn": [{"role": "user"}]}, "pronoun_turn: a chat message is"),
        (ROW | {"lang": 1}, "lang must be a non-empty string, not 1"),
        (ROW | {"id": ""}, "id must be a non-empty string"),
    ],
)
def test_a_row_with_a_fault_is_named(tmp_path, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: {words}") as raised:
        load_task("helpdesk", [file_of(tmp_path, ROW | {"id": "first", "prompt": "Who?"}, row)])
    assert "\n" not in str(raised.value)


def test_files_of_other_tasks_and_empty_text(tmp_path):
    with pytest.raises(EditError, match="no rephrasings for task helpdesk; its fields .* fit task zsre"):
        load_task("helpdesk", [file_of(tmp_path, {"prompt": "Who?", "target": "Ann"})])
    with pytest.raises(EditError, match="no edits among the files"):
        load_task("helpdesk", [file_of(tmp_path, {"prompt": "Who?"})])
    (tmp_path / "empty.txt").write_text(" \n\n")
    with pytest.raises(EditError, match=r"empty\.txt: no lines with text in it"):
        load_task("helpdesk", [file_of(tmp_path, ROW), str(tmp_path / "empty.txt")])
