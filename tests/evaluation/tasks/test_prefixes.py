"""Prefixes before a conversation: text before the last turn, turns before the first."""

from meloedit.evaluation.tasks.prefixes import PREFIXES, prefixed

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Who?"},
]


def test_a_conversation_keeps_its_turns():
    system = prefixed("system", CHAT, True)
    assert system[0]["content"] == PREFIXES["system"][1] and system[1:] == CHAT[1:]
    text = prefixed("instruction", CHAT, True)
    assert text[:-1] == CHAT[:-1] and text[-1]["content"] == PREFIXES["instruction"][1] + "Who?"
    turn = prefixed("turn", CHAT, True)
    assert turn[0] == CHAT[0] and turn[1]["content"] == PREFIXES["turn"][1] and turn[3:] == CHAT[1:]


def test_a_text_becomes_a_conversation_where_there_is_a_template():
    assert prefixed("turn", "Who?", True)[-1] == {"role": "user", "content": "Who?"}
    assert prefixed("turn", "Who?", False).endswith("\n\nWho?")
