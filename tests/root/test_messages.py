"""Messages as clients send them: contents in parts, tools, other roles, and what is refused."""

import pytest

from meloedit import Edit
from meloedit.edit import check_asked, check_prompt, prompt_key, prompt_list, prompt_text
from meloedit.errors import EditError
from meloedit.messages import read_messages, up_to_question
from meloedit.readers import prompt_of

QUESTION = "Who leads Ohm?"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"town": "Ohm"}'}}
TOOLS = [
    {"role": "developer", "content": "Be short."},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "annotations": []},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": '{"leader": "Ada"}'}]},
]


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def user(content):
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "content",
    [
        parts(QUESTION),
        [{"type": "input_text", "text": QUESTION}],
        [{"text": QUESTION}],
        [QUESTION],
        [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}}],
    ],
)
def test_a_prompt_in_parts_is_its_text(content):
    plain, given = Edit([user(QUESTION)], "Ada"), Edit([user(content)], "Ada")
    assert (given, given.id, given.content) == (plain, plain.id, plain.content)
    assert prompt_key([user(content)] and given.prompt) == prompt_key(QUESTION)
    assert Edit("a?", "b", variants=[[user(content)]], quiet=[[user(parts("c?"))]]) == Edit(
        "a?", "b", variants=[[user(QUESTION)]], quiet=[[user("c?")]]
    )
    assert prompt_list([user(content)]) == [[user(QUESTION)]] == prompt_list([[user(content)]])


def test_several_parts_are_lines_and_may_be_empty():
    assert read_messages([user(parts("one", "", "two")), user([])]) == [user("one\n\ntwo"), user("")]


def test_histories_with_tools():
    asked = check_asked([*TOOLS, user(parts("And before?"))])
    assert [one["role"] for one in asked] == ["system", "user", "assistant", "tool", "user"]
    assert asked[2] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL | {"function": {"name": "look_up", "arguments": {"town": "Ohm"}}}],
    }
    assert asked[3] == {"role": "tool", "content": '{"leader": "Ada"}', "tool_call_id": "c1"}
    assert check_asked(asked) == asked and Edit(asked, "Bo").prompt == asked
    assert prompt_text(asked) == "And before?"
    assert TOOLS[2]["tool_calls"][0]["function"]["arguments"] == '{"town": "Ohm"}'  # the caller's own stay as they are


def test_the_question_is_the_users_last_turn_also_behind_a_tools_result():
    assert prompt_text(check_asked(TOOLS)) == QUESTION
    assert up_to_question(TOOLS) == TOOLS[:2]
    with pytest.raises(EditError, match="the last chat message must be the user's, with some text"):
        Edit(TOOLS, "Ada")


def test_an_empty_turn_is_asked_but_is_no_edit():
    for content in ("", " \n", [], parts("")):
        assert prompt_text(check_asked([user("Hello"), user(content)])).strip() == ""
        with pytest.raises(EditError, match="the last chat message must be the user's, with some text"):
            check_prompt([user(content)])


def test_what_is_no_text_is_refused_or_left_out():
    for kind in ("image_url", "input_audio", "file"):
        prompt = [user("Hello"), user([{"type": kind, kind: {}}, *parts(QUESTION)])]
        with pytest.raises(EditError) as caught:
            Edit(prompt, "Ada")
        assert str(caught.value) == (
            f"prompt: chat message 2 has a part of the type '{kind}', and text alone is read: leave that part out"
        )
        with pytest.raises(EditError, match=r"prompts\[1\]: chat message 2 has a part of the type"):
            prompt_list(["a?", prompt])
        assert check_asked(prompt, leave_out=True) == [user("Hello"), user(QUESTION)]
    assert check_asked([user([IMAGE])], leave_out=True) == [user("")]


BAD = {
    "a chat message is": [
        ["text"],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "assistant", "content": None}, user("a?")],
        [{"role": 3, "content": "a?"}],
        parts("a?"),
    ],
    "chat message 1: a part of a content is": [
        [user([7])],
        [user([{"type": "text"}])],
        [user([{"type": "text", "text": 1}])],
    ],
    "has a part of the type": [[user([{"type": None, "text": "a?"}])], [user([{"type": ["text"], "text": "a?"}])]],
    "tool_calls must be a list of objects": [[{"role": "assistant", "tool_calls": "x"}, user("a?")]],
    "tool_calls must be JSON": [[{"role": "assistant", "tool_calls": [{"x": {1}}]}, user("a?")]],
    "the arguments of a tool call are not JSON": [
        [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}, user("a?")]
    ],
    "or behind the user's a tool's result, or the beginning of an answer": [
        [{"role": "assistant", "content": "x"}],
        [{"role": "tool", "content": "x"}],
        [user("a?"), {"role": "system", "content": "x"}],
        [{"role": "assistant", "content": " "}],
    ],
    "calls a tool: give the tool's result": [
        [user("a?"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    ],
    "cannot be encoded": [[user(parts("a\ud800?"))]],
}


@pytest.mark.parametrize(("message", "prompt"), [(name, prompt) for name, many in BAD.items() for prompt in many])
def test_bad_messages_have_one_clear_line(message, prompt):
    with pytest.raises(EditError, match=message) as caught:
        check_asked(prompt)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def answer(text):
    return {"role": "assistant", "content": text}


def test_the_beginning_of_an_answer_may_end_a_prompt_that_is_asked():
    begun = [user(QUESTION), answer("It is")]
    assert check_asked(begun) == begun and prompt_text(begun) == QUESTION
    assert check_asked([user(QUESTION), answer(" \n")]) == [user(QUESTION)]
    assert check_asked([*TOOLS, answer("It is")])[-1] == answer("It is")
    assert prompt_list([begun, QUESTION]) == [begun, QUESTION]
    with pytest.raises(EditError, match="the last chat message must be the user's, with some text"):
        Edit(begun, "Ada")


def test_a_result_that_is_written_as_the_users_turn_is_no_question():
    for mark in ("<tool_response>", "\n```tool_output"):
        asked = [user(QUESTION), answer("<tool_call>{}</tool_call>"), user(f"{mark}\nBo")]
        assert prompt_text(check_asked(asked)) == QUESTION and up_to_question(asked) == asked[:1]
    assert prompt_text([user("What is <tool_response>?")]) == "What is <tool_response>?"


def test_lines_of_files_may_end_with_the_beginning_of_an_answer():
    begun = [user(QUESTION), answer("It is")]
    assert prompt_of(begun, "line 1") == prompt_of({"prompt": begun}, "line 1") == begun
    assert prompt_of({"messages": begun}, "line 1") == begun[:1]
    assert prompt_of({"messages": begun, "continue_final_message": True}, "line 1") == begun
    assert prompt_of({"prompt": begun}, "line 1", logged=True) == begun[:1]


def test_lines_of_chats_are_edits():
    expected = Edit([user(QUESTION)], "Ada")
    wrong = [user(parts(QUESTION)), answer("Bo")]
    for line in (
        {"messages": [user(QUESTION)], "target": "Ada"},
        {"messages": wrong, "target": "Ada"},
        {"messages": [*wrong[:1], answer(parts("Ada"))]},
        {"messages": wrong, "target": "Ada", "prompt": None},
    ):
        assert Edit.from_dict(line) == expected
    later = Edit.from_dict({"messages": [*wrong, user("And Volt?"), answer("Cy")], "id": "x", "quiet": ["a?"]})
    assert later == Edit([user(QUESTION), answer("Bo"), user("And Volt?")], "Cy", id="x", quiet=["a?"])
    with_tools = Edit.from_dict({"messages": [*TOOLS, answer("Ada")]})
    assert with_tools.prompt == [{"role": "system", "content": "Be short."}, user(QUESTION)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"messages": [user("a?")]}, "no target, and messages do not end with an answer"),
        ({"messages": [user("a?"), answer(" ")]}, "no target, and messages do not end with an answer"),
        ({"messages": [], "target": "b"}, "non-empty list of chat messages"),
        ({"messages": "a?", "target": "b"}, "messages must be a list of chat messages, not str"),
        ({"messages": [answer("a")]}, "the last chat message must be the user's"),
        ({"messages": [user("a?")], "prompt": "a?", "target": "b"}, "give prompt or messages, not both"),
        ({"messages": [user([IMAGE]), answer("b")]}, "messages: chat message 1 has a part of the type 'image_url'"),
        ({"messages": [user("a?"), answer("b")], "tools": []}, "unknown field 'tools'"),
    ],
)
def test_lines_of_chats_that_are_no_edits(line, message):
    with pytest.raises(EditError, match=message):
        Edit.from_dict(line)
