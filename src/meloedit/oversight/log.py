"""Read a log of traffic one line at a time, however long it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..callers.arguments import shown
from ..errors import EditError
from ..readers import prompt_of
from ..rows import check_line, json_value, open_utf8, source_name
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
    with open_utf8(path, name) as stream:
        for number, text in enumerate(stream, 1):
            if text.strip():
                yield LogLine(number, text, f"{name}, line {number}")


def count_lines(path: Path) -> int:
    """Return how many lines a log has."""
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK), b""))
    except ValueError:  # a zero byte, or half of a surrogate pair
        raise EditError(f"{shown(str(path))}: cannot be read (it is no name of a file)") from None
    except (OSError, EOFError, zlib.error) as error:
        raise EditError(f"{path}: cannot be read ({error})") from None


def prompt_in(line: LogLine, plain: bool, leave_out: bool = True) -> Prompt:
    """Return the prompt of a line: the line itself where the log is plain text, else a JSON value.

    It is a string, a list of chat messages, or an object whose ``prompt`` or ``messages`` is one of these. Of messages
    those up to the user's last one are the prompt; of contents in parts the texts count.

    Args:
        line: the line.
        plain: whether the log is plain text.
        leave_out: leave parts of messages out that are no text, instead of refusing them.

    Raises:
        EditError: naming file and line, if it is none of these.
    """
    if plain:
        return check_line(line.text, line.where).strip()
    return prompt_of(json_value(line.text, line.where), line.where, logged=True, leave_out=leave_out)


def logged_prompt(log: Path, number: int) -> tuple[Prompt, str]:
    """Return what a line of a log asked, and the words for where it stands.

    Raises:
        EditError: if there is no such line, or it is no prompt that an edit can have.
    """
    if number < 1:
        raise EditError(f"the lines of a log are counted from 1, so there is no line {number}")
    last = 0
    for line in log_lines(log):
        if line.number == number:
            return prompt_in(line, is_plain(log), leave_out=False), line.where
        if line.number > number:
            raise EditError(f"{source_name(log)}, line {number}: the line is empty")
        last = line.number
    raise EditError(f"{source_name(log)} has no line {number}: its last one is {last:,}")


def is_plain(path: Path) -> bool:
    """Return whether the lines of a log are the prompts themselves."""
    return path.name.removesuffix(".gz").lower().endswith(".txt")
