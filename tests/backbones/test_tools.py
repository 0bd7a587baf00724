"""Results of tools in rendered prompts of several templates: they are told from the user's own turns."""

import pytest
from support.templates import CALL, GEMMA, QWEN, TOOLS, assistant, result, user

from meloedit.backbones.chat import ChatMarkers
from meloedit.messages import RESULTS

ASKED = "Who wrote the book of sand?"
LOOP = [user(ASKED), CALL, result("Nobody knows.")]
LOOPS = {
    "one result": LOOP,
    "two results": [*LOOP, result('{"who": "Bo"}')],
    "two calls": [*LOOP, CALL, result("Still nobody.")],
    "a call in words": [user(ASKED), assistant("I look it up."), result("Nobody knows.")],
    "after a turn": [user("Is it late?"), assistant("No."), *LOOP],
    "a result that asks": [user(ASKED), CALL, result("Is it late?")],
}
NO_LOOPS = {
    "a question": [user(ASKED)],
    "after a loop": [user("Is it late?"), CALL, result("No."), assistant("No."), user(ASKED)],
    "right after a result": [user("Is it late?"), CALL, result("No."), user(ASKED)],
    "after a turn": [user("Is it late?"), assistant("No."), user(ASKED)],
}


@pytest.fixture(params=TOOLS)
def chatting(request, make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TOOLS[request.param]
    return tokenizer, ChatMarkers.of(tokenizer)


def rendered(tokenizer, messages, text=""):
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + text
    return tokenizer(whole, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_question_stands_before_the_results(chatting, loop):
    tokenizer, markers = chatting
    ids = rendered(tokenizer, LOOPS[loop])
    start, stop = markers.last_user_turn(ids)
    assert tokenizer.decode(ids[start:stop]).strip() == ASKED and markers.has_result(ids)
    end = markers.prompt_end(ids, stop)
    assert end in (len(ids), None)  # None where no header stands behind a result
    assert end == len(ids) or "[TOOL_RESULTS]" in tokenizer.chat_template
    said = rendered(tokenizer, LOOPS[loop], " Bo said")
    assert markers.prompt_end(said, stop) == end


@pytest.mark.parametrize("loop", NO_LOOPS)
def test_a_later_turn_of_the_users_is_the_question(chatting, loop):
    tokenizer, markers = chatting
    ids = rendered(tokenizer, NO_LOOPS[loop])
    start, stop = markers.last_user_turn(ids)
    assert tokenizer.decode(ids[start:stop]).strip() == ASKED and not markers.has_result(ids)
    assert markers.prompt_end(ids, stop) == len(ids)
    before = [tokenizer.decode(ids[low:high]) for low, high in markers.turns_before(ids, start)]
    assert not any(text.lstrip().startswith(RESULTS) for text in before)


def test_a_question_about_a_mark_is_no_result(chatting):
    tokenizer, markers = chatting
    for text in ("What does <tool_response> mean?", "tool: it is cold", "[TOOL_RESULTS is what?", "tool_response"):
        ids = rendered(tokenizer, [user(text)])
        assert tokenizer.decode(ids[slice(*markers.last_user_turn(ids))]).strip() == text
        assert not markers.has_result(ids)
        raw = tokenizer(text)["input_ids"]
        assert not markers.has_result(raw)


def test_results_that_clients_write_as_users_turns(make_tokenizer):
    tokenizer = make_tokenizer()
    for template in (*TOOLS.values(), GEMMA):
        tokenizer.chat_template = template
        markers = ChatMarkers.of(tokenizer)
        for mark in RESULTS:
            ids = rendered(tokenizer, [user(ASKED), assistant("<tool_call>"), user(f"{mark}\nNobody knows.")])
            assert tokenizer.decode(ids[slice(*markers.last_user_turn(ids))]).strip() == ASKED
            assert markers.has_result(ids)


def test_a_template_without_tools_has_no_marks(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = GEMMA
    marks = ChatMarkers.of(tokenizer).tools
    assert (marks.mark, marks.opening) == ("", "")


THOUGHTS = [
    "<think>\n\n</think>\n\n",
    "<think>\nThe user asks. Well.\n\nSo be it.\n</think>\n\n",
    "\n<think></think>\n",
]


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_think_block_belongs_to_the_prompt(chatting, thought):
    tokenizer, markers = chatting
    ids = rendered(tokenizer, [user(ASKED)], thought)
    stop = markers.last_user_turn(ids)[1]
    assert markers.prompt_end(ids, stop) == len(ids)
    for answer in ("Bo", "Bo said <think> once"):
        said = rendered(tokenizer, [user(ASKED)], thought + answer)
        assert tokenizer.decode(said[markers.prompt_end(said, stop) :]).lstrip() == answer
    for text in ("<think>\nThe user", "Bo <think></think>"):  # not closed; not at the beginning
        said = rendered(tokenizer, [user(ASKED)], text)
        assert markers.prompt_end(said, stop) == len(rendered(tokenizer, [user(ASKED)]))


def test_thinking_switched_off_by_the_template(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = QWEN
    off = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    ids = tokenizer(tokenizer.apply_chat_template([user(ASKED)], **off), add_special_tokens=False)["input_ids"]
    markers = ChatMarkers.of(tokenizer)
    assert markers.prompt_end(ids, markers.last_user_turn(ids)[1]) == len(ids)
