"""Read edits and prompts that users bring: JSONL, CSV or plain text, gzipped or not, from a file or standard input."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .callers.arguments import shown
from .callers.json_text import JsonError, read_json
from .edit import MAX_DEPTH, Edit, check_asked, contradiction, too_deep
from .errors import EditError
from .messages import up_to_question
from .rows import json_rows, open_utf8, plain_rows, source_name
from .text import fields_found, join_names
from .types import Prompt


@dataclass(frozen=True)
class SourcedEdit:
    """An edit and the place it was read from, as in ``facts.jsonl, line 3``."""

    edit: Edit
    where: str


def read_edits(path: str | Path) -> list[SourcedEdit]:
    """Read edits from a JSONL or CSV file (``.gz`` too), or JSONL from standard input (``-``).

    A CSV file has a header with ``prompt`` and ``target``. Its ``variants``, ``quiet`` and ``metadata`` cells are JSON.

    Raises:
        EditError: naming file and line, if a line is not an edit or two lines contradict each other.
    """
    name = source_name(path)
    with open_utf8(path, name) as stream:
        rows = _csv_rows(stream, name) if _suffix(path) == ".csv" else json_rows(stream, name)
        sourced = []
        for where, values in rows:
            try:
                sourced.append(SourcedEdit(Edit.from_dict(values), where))
            except EditError as error:
                raise EditError(f"{where}: {error}") from None
    if clash := contradiction(item.edit for item in sourced):
        first, second = (sourced[i] for i in clash)
        raise EditError(f"{second.where} contradicts {first.where}: same prompt or id, other target; keep one of them")
    return sourced


def _suffix(path: str | Path) -> str:
    return Path(str(path).removesuffix(".gz")).suffix.lower()


def _csv_rows(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number  # csv's line_num does not count the line it fails on
        for line in stream:
            number += 1
            yield line

    columns: list[str] = []
    begin = 1  # the line on which a row begins; a cell in quotes may go on over more lines
    try:
        for row in csv.reader(lines(), strict=True):
            where = f"{name}, line {begin}"
            begin = number + 1
            if row and columns:
                yield where, _csv_values(columns, row, where)
            elif row:
                columns = row
                _check_header(columns, where)
    except csv.Error as error:
        raise EditError(f"{name}, line {begin}: not CSV ({_csv_reason(error)})") from None


def _csv_reason(error: csv.Error) -> str:
    reason = str(error)
    if reason == "unexpected end of data":
        return "a quote is never closed"
    if reason.startswith("field larger"):
        limit = f"{csv.field_size_limit():,} characters"
        return f"a cell is over the limit of {limit}: shorten it, close its quote, or use JSONL instead"
    return reason


def _csv_values(columns: list[str], row: list[str], where: str) -> dict[str, Any]:
    if len(row) > len(columns):
        raise EditError(f"{where}: more cells than the header has columns")
    values: dict[str, Any] = {column: cell for column, cell in zip(columns, row, strict=False) if cell}
    for column in values.keys() & {"variants", "quiet", "metadata", "over_tools"}:
        values[column] = _cell(values[column], f"{where}: column {column!r}")
    return values


def _cell(text: str, where: str) -> Any:
    try:
        value = read_json(text)
    except JsonError as error:
        raise EditError(f'{where} must hold JSON, as in ["another wording"] ({error})') from None
    if too_deep(value):
        raise EditError(f"{where} is nested more than {MAX_DEPTH} levels deep")
    return value


def _check_header(columns: list[str], where: str) -> None:
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise EditError(f"{where}: the column {twice[0]!r} comes twice")
    if missing := [column for column in ("prompt", "target") if column not in columns]:
        hint = ": separate them with commas" if len(columns) == 1 and {";", "\t"} & set(columns[0]) else ""
        raise EditError(
            f"{where}: the header has no column {' and no column '.join(map(repr, missing))} "
            f"(columns found: {join_names([repr(column) for column in columns], 12)}){hint}"
        )


SourcedPrompt = tuple[str, Prompt]
"""The place a prompt was read from (``traffic.txt, line 3``; empty for an argument), and the prompt."""


def read_prompts(path: str | Path) -> list[SourcedPrompt]:
    """Read prompts, one per line, from a file (``.gz`` too) or standard input (``-``); empty lines are skipped.

    In a ``.txt`` file and on standard input, the line itself is the prompt. In other files, a line is a JSON string, a
    list of chat messages, or an object whose ``prompt`` is one of these; see ``prompt_of``.

    Raises:
        EditError: naming file and line, if a line is no prompt; or if the file has no prompts.
    """
    name = source_name(path)
    plain = str(path) == "-" or _suffix(path) == ".txt"
    prompts: list[SourcedPrompt] = []
    with open_utf8(path, name) as stream:
        if plain:
            prompts.extend(plain_rows(stream, name))
        else:
            prompts.extend((where, prompt_of(value, where)) for where, value in json_rows(stream, name))
    if not prompts:
        raise EditError(f"{name} holds no prompts: one per line is expected")
    return prompts


def prompt_of(value: object, where: str, logged: bool = False, leave_out: bool = False) -> Prompt:
    """Return the prompt that a line's value is, or has as ``prompt`` or ``messages``.

    Of ``messages``, and if ``logged`` of any, those up to the user's last one count: what follows is the answer, or its
    beginning if ``continue_final_message`` is true beside them. With ``leave_out``, parts that are no text are skipped.

    Raises:
        EditError: if it is none.
    """
    if isinstance(value, Mapping):
        field = "messages" if "prompt" not in value and "messages" in value else "prompt"
        if field not in value:
            raise EditError(f"{where}: no prompt {fields_found(value)}")
        goes_on = value.get("continue_final_message") is True
        value, logged = value[field], logged or (field == "messages" and not goes_on)
    if logged and isinstance(value, list):
        value = up_to_question(value)
    try:
        return check_asked(value, leave_out=leave_out)
    except EditError as error:
        raise EditError(f"{where}: {error}") from None


def edit_list(edits: object) -> list[Edit]:
    """Return one edit or many, each as an ``Edit``, as ``read_edits`` gives it, or as an object, as a list of edits.

    Raises:
        EditError: if one is no edit.
    """
    if not isinstance(edits, (Edit, Mapping, Iterable)) or isinstance(edits, (str, bytes)):
        raise EditError(f"edits must be an Edit, an object with prompt and target, or a list, not {shown(edits)}")
    many = [edits] if isinstance(edits, (Edit, Mapping)) else list(edits)
    plain = [edit.edit if isinstance(edit, SourcedEdit) else edit for edit in many]
    return [edit if isinstance(edit, Edit) else Edit.from_dict(edit) for edit in plain]
