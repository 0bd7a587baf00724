"""Chat messages as clients send them, made into one form: a role and a text each. All that takes a prompt reads it so.

Contents in parts become one text, ``developer`` is ``system``, an assistant's turn that only calls tools has no text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import EditError
from .text import plain, shorten

TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The types of parts that are text, and the field in which each has it."""
OF_TOOLS = {"assistant": ("tool_calls",), "tool": ("tool_call_id", "name")}
"""Further fields of a message that chat templates read, by its role; all others are left out."""


RESULTS = ("<tool_response>", "```tool_output")
"""How clients open a tool's result that they write as a user's turn by themselves: as Qwen and Gemma were trained."""


def check_text(text: str, name: str) -> str:
    """Return a text that can be encoded.

    Raises:
        EditError: if it cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EditError(f"{name} cannot be encoded: character {error.start + 1} is half of a pair") from None
    return text


def read_messages(messages: list[Any], name: str = "prompt", leave_out: bool = False) -> list[dict[str, Any]]:
    """Return chat messages with ``role``, ``content`` as one text, and of tools what chat templates read.

    Args:
        messages: the messages as a client sends them.
        name: what errors call the prompt.
        leave_out: leave parts out that are no text, instead of refusing them.

    Raises:
        EditError: if one is no message, or has a part that is no text.
    """
    return [_read(message, f"{name}: chat message {i}", name, leave_out) for i, message in enumerate(messages, 1)]


def up_to_question(messages: list[Any]) -> list[Any]:
    """Return messages up to the user's own last one: what came after it is the answer. All of them if none is."""
    users = [i for i, one in enumerate(messages) if isinstance(one, Mapping) and _asks(one)]
    return messages[: users[-1] + 1] if users else messages


def question(messages: list[dict[str, Any]]) -> str:
    """Return the text of the user's own last turn, also if results of tools follow it."""
    return str(next((one["content"] for one in reversed(messages) if _asks(one)), messages[-1]["content"]))


def _asks(message: Mapping[str, Any]) -> bool:
    """Return whether a message is the user's own, and no tool's result that is written as one."""
    content = message.get("content")
    is_result = isinstance(content, str) and content.lstrip().startswith(RESULTS)
    return message.get("role") == "user" and not is_result


def begun(messages: list[dict[str, Any]]) -> bool:
    """Return whether messages end with an answer of the assistant's that the model is to go on with."""
    return messages[-1]["role"] == "assistant"


def _read(message: Any, where: str, name: str, leave_out: bool) -> dict[str, Any]:
    role = message.get("role") if isinstance(message, Mapping) else None
    content = message.get("content") if isinstance(message, Mapping) else None
    calls = role == "assistant" and bool(message.get("tool_calls"))
    if content is None and (calls or leave_out):
        content = ""
    if not isinstance(role, str) or not isinstance(content, (str, list)):
        shown = plain(shorten(repr(message), 200))
        raise EditError(f'{name}: a chat message is {{"role": "...", "content": "..."}}, not {shown}')
    text = content if isinstance(content, str) else _joined(content, where, leave_out)
    read: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": text}
    check_text(role + text, name)
    for field in OF_TOOLS.get(role, ()):
        if message.get(field) is not None:
            read[field] = _copied(message[field], f"{where}: {field}")
    if calls:
        read["tool_calls"] = [_read_call(call, where) for call in _listed(read["tool_calls"], where)]
    return read


def _joined(parts: list[Any], where: str, leave_out: bool) -> str:
    """Return the texts of parts, one a line."""
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        field = TEXTS.get(kind) if isinstance(kind, str) else None
        text = part if isinstance(part, str) else part.get(field) if isinstance(part, Mapping) and field else None
        if isinstance(text, str):
            texts.append(text)
        elif field or not isinstance(part, Mapping):
            shown = plain(shorten(repr(part), 200))
            raise EditError(f'{where}: a part of a content is {{"type": "text", "text": "..."}}, not {shown}')
        elif not leave_out:
            raise EditError(f"{where} has a part of the type {kind!r}, and text alone is read: leave that part out")
    return "\n".join(texts)


def _listed(calls: Any, where: str) -> list[Any]:
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise EditError(f"{where}: tool_calls must be a list of objects, not {plain(shorten(repr(calls), 200))}")
    return calls


def _read_call(call: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a tool call with its arguments as an object, as templates expect them; clients send them as JSON text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        raise EditError(f"{where}: the arguments of a tool call are not JSON") from None
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _copied(value: Any, where: str) -> Any:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise EditError(f"{where} must be JSON") from None
    return json.loads(check_text(text, where))
