"""The rows of files that people bring: opened, decoded, one value each, with the words for where it stands.

A file may be gzipped, or standard input. Whatever is wrong with it is an EditError that names the file, and where that
is known the line.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from .callers.arguments import shown
from .callers.json_text import JsonError, read_json
from .edit import MAX_DEPTH, too_deep
from .errors import EditError

MAX_LINE = 1_000_000
"""Characters in one line of a file. Longer lines cannot be prompts and would be slow to reject."""


def check_line(text: str, where: str) -> str:
    """Return a line of a file unless it is too long to be a prompt.

    Raises:
        EditError: if it is too long, naming ``where``.
    """
    if len(text) > MAX_LINE:
        raise EditError(f"{where}: {len(text):,} characters in one line, at most {MAX_LINE:,} are read: split it")
    return text


def source_name(path: str | Path) -> str:
    """Return what messages call a file, or standard input (``-``).

    Raises:
        EditError: if it is no name of a file.
    """
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise EditError(f"give the name of a file, or - for standard input, not {shown(path)}")
    return "standard input" if str(path) == "-" else str(path)


def open_text(path: str | Path) -> TextIO:
    """Open a file of UTF-8 text, gzipped or not, or standard input (``-``).

    Raises:
        EditError: if the name is empty or the file cannot be opened.
    """
    source_name(path)  # refuses what is no name
    if str(path) == "-":
        raw: Any = io.BytesIO(sys.stdin.buffer.read())  # a copy: closing it leaves standard input open
        return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    try:
        raw = open(path, "rb")
        if str(path).endswith(".gz") or raw.peek(2)[:2] == b"\x1f\x8b":
            raw.close()
            raw = gzip.open(path, "rb")
    except UnicodeEncodeError:
        raise EditError(f"{shown(path)}: cannot be read (it is no name of a file)") from None
    except OSError as error:
        raise EditError(f"{path}: cannot be read ({error.strerror})") from None
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


@contextmanager
def open_utf8(path: str | Path, name: str) -> Iterator[TextIO]:
    """Open a file as ``open_text`` does; what shows while it is read, such as damage, becomes an EditError.

    The error names the file, and of bytes that are not UTF-8 their line.
    """
    with open_text(path) as stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            raise EditError(_not_utf8(stream, name) or f"{name}: not UTF-8 text ({error.reason})") from None
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise EditError(f"{name}: not a readable gzip file ({error})") from None
        except OSError as error:  # of a disk, say
            raise EditError(f"{name}: cannot be read ({error.strerror or error})") from None


def _not_utf8(stream: TextIO, name: str) -> str:
    """Return where a file stops being UTF-8, from a second reading; empty if it cannot be read twice (a pipe).

    The first reading's error does not tell: it counts inside the piece of the file that was being decoded.
    """
    number = start = 0
    try:
        stream.buffer.seek(0)
        for line in stream.buffer:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                number += len(line[: error.start + 1].splitlines())
                return f"{name}, line {number}: not UTF-8 text ({error.reason} at byte {start + error.start})"
            number += len(line.splitlines())  # a lone carriage return ends a line too
            start += len(line)
    except (OSError, EOFError, zlib.error):
        pass
    return ""


def json_rows(stream: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the JSON value of each line of a file, with the words for where the line stands.

    Raises:
        EditError: naming ``name`` and line, if a line is too long, not JSON, or nested too deeply.
    """
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        yield where, json_value(line, where)


def plain_rows(stream: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a file that is not blank, stripped, with the words for where it stands.

    Raises:
        EditError: naming ``name`` and line, if a line is too long.
    """
    for number, line in enumerate(stream, 1):
        where = f"{name}, line {number}"
        if text := check_line(line, where).strip():
            yield where, text


def json_value(line: str, where: str) -> Any:
    """Return the JSON value of a line that stands at ``where``.

    Raises:
        EditError: if the line is too long, not JSON, or nested too deeply.
    """
    text = check_line(line, where).rstrip()
    try:
        value = read_json(text)
    except JsonError as error:
        raise EditError(f"{where}: not JSON ({error}); one object per line is expected") from None
    if too_deep(value, MAX_DEPTH + 1):  # one level more than metadata may have, which has a message of its own
        raise EditError(f"{where}: nested more than {MAX_DEPTH} levels deep")
    return value


def rows_of(stream: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the JSON values of a file, each with its place: those of its lines, or of the one list that it is.

    Raises:
        EditError: naming ``name`` and the place, if a value is not JSON, too long, or nested too deeply.
    """
    lines = iter(stream)
    start: list[str] = []  # the lines up to the first that is not blank
    for line in lines:
        start.append(line)
        if line.strip():
            break
    whole = chain(start, lines)
    is_list = bool(start) and start[-1].lstrip().startswith("[")
    yield from _list_rows("".join(whole), name) if is_list else json_rows(whole, name)


def _list_rows(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of one JSON list, each with its place in the file."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EditError(f"{name}: not JSON ({error})") from None
    for number, value in enumerate(values, 1):
        if too_deep(value):
            raise EditError(f"{name}, row {number}: nested more than {MAX_DEPTH} levels deep")
        yield f"{name}, row {number}", value
