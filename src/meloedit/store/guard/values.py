"""The one check of what a row says about an edit, with bounds: whoever wrote the file may have written anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...edit import Edit
from ...errors import EditError
from ..records import GIVEN, StoredEdit
from ..schema import RecordRow, damaged

MAX_TEXT = 16_000_000
"""Characters of a JSON text in a row: an edit, a report, details of a change, settings."""
MAX_RANK = 65_536
"""The greatest rank that a block may state."""
REACHES = ("answer", "all")


def read_object(name: str | Path, what: str, text: Any) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        StoreError: calling it ``what``, if it is none.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise damaged(name, f"{what} is no text, or longer than {MAX_TEXT:,} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(name, f"{what} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise damaged(name, f"{what} cannot be read: it is no JSON object")
    return value


def whole(value: Any, least: int, most: int) -> bool:
    """Return whether a value is a whole number between two others, these included."""
    return type(value) is int and least <= value <= most


def read_edit(name: str | Path, edit_id: str, text: Any) -> Edit:
    """Return the edit in the JSON text of a record.

    Raises:
        StoreError: if it is none, or has another id.
    """
    try:
        edit = Edit.from_dict(read_object(name, f"edit {edit_id!r}", text))
    except (EditError, ValueError, TypeError, RecursionError) as error:
        raise damaged(name, f"edit {edit_id!r} cannot be read: {error}") from None
    if edit.id != edit_id:
        raise damaged(name, f"edit {edit_id!r} holds the id {edit.id!r}")
    return edit


def read_report(name: str | Path, record: int, edit_id: str, text: Any) -> dict[str, Any]:
    """Return the report of a record, in which the number of a shared block and the edit as it was given are sound.

    Raises:
        StoreError: if they are not.
    """
    report = read_object(name, f"the report of edit {edit_id!r}", text)
    if "block" in report and not whole(report["block"], 1, record - 1):
        raise damaged(name, f"edit {edit_id!r} shares the block of a record that cannot be: {report['block']!r}")
    if not whole(report.get("positions", 0), 0, MAX_RANK):
        raise damaged(name, f"edit {edit_id!r} states {report['positions']!r} answer positions")
    if GIVEN in report:
        given = report[GIVEN]
        try:
            sound = isinstance(given, Mapping) and Edit.from_dict(given).id == edit_id
        except (EditError, ValueError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise damaged(name, f"edit {edit_id!r} as it was given cannot be read")
    return report


def stored_edit(name: str | Path, row: RecordRow, enabled: bool, changed: int, keys: int) -> StoredEdit:
    """Return a live edit from its record.

    Args:
        name: the store's name in messages.
        row: the record.
        enabled: whether it answers.
        changed: the revision of its latest change.
        keys: the bytes of its keys.

    Raises:
        StoreError: naming the edit and what is wrong with it.
    """
    edit = read_edit(name, row.edit_id, row.edit)
    report = read_report(name, row.id, row.edit_id, row.report)
    if not whole(row.rank, 1, MAX_RANK):
        raise damaged(name, f"edit {row.edit_id!r} has the rank {row.rank!r}")
    if row.reach not in REACHES:
        raise damaged(name, f"edit {row.edit_id!r} has the reach {row.reach!r}: it is answer or all")
    return StoredEdit(edit, enabled, row.rank, row.reach, report, changed, row.id, row.size + keys)
