"""Read a log of traffic one line at a time, however long it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EditError
from ..readers import check_line, json_value, open_utf8, prompt_of, source_name
from ..types import Prompt

BLOCK = 1 << 20
"""Bytes read at once to count lines."""


class LogLine(NamedTuple):
    """A line of a log.

    Attributes:
        number: from 1 on.
        text: the line as it stands there.
        where: the words for where it stands.
    """

    number: int
    text: str
    where: str


def log_lines(path: Path) -> Iterator[LogLine]:
    """Yield the lines of a log (``.gz`` too) that are not empty.

    Raises:
        EditError: naming file and line, if the log cannot be read, or is not UTF-8.
    """
    name = source_name(path)
    try:
        with open_utf8(path, name) as stream:
            for number, text in enumerate(stream, 1):
                if text.strip():
                    yield LogLine(number, text, f"{name}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise EditError(f"{name}: cannot be read ({error})") from None


def count_lines(path: Path) -> int:
    """Return how many lines a log has."""
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK), b""))
    except (OSError, EOFError, zlib.error) as error:
        raise EditError(f"{path}: cannot be read ({error})") from None


def prompt_in(line: LogLine, plain: bool) -> Prompt:
    """Return the prompt of a line: the line itself where the log is plain text, else a JSON value.

    It is a string, a list of chat messages, or an object whose ``prompt`` or ``messages`` is one of these. Of messages
    those up to the user's last one are the prompt; of contents in parts the texts count.

    Raises:
        EditError: naming file and line, if it is none of these.
    """
    if plain:
        return check_line(line.text, line.where).strip()
    value = json_value(line.text, line.where)
    if isinstance(value, dict) and "prompt" not in value and "messages" in value:
        value = value["messages"]
    if isinstance(value, dict) and isinstance(value.get("prompt"), list):
        value = value["prompt"]
    return prompt_of(_asked(value) if isinstance(value, list) else value, line.where)


def is_plain(path: Path) -> bool:
    """Return whether the lines of a log are the prompts themselves."""
    return path.name.removesuffix(".gz").lower().endswith(".txt")


def _asked(messages: list[Any]) -> list[Any]:
    """Return messages up to the user's last one, contents in parts as one text."""
    last = max((i for i, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user"), default=-1)
    return [_with_text(message) for message in (messages[: last + 1] if last >= 0 else messages)]


def _with_text(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    parts = message.get("content")
    if parts is None:
        return {**message, "content": ""}  # an assistant's turn that only calls a tool
    if not isinstance(parts, list):
        return message
    return {**message, "content": "\n".join(p["text"] for p in parts if isinstance(p, dict) and "text" in p)}
