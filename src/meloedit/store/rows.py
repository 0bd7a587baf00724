"""The SQL of a store: write values as rows, read rows as values, each row with its checksum.

``name`` is the path of the store as the user gave it, for error messages.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .chain import Added, Live, LogRow, checked_record, link
from .guard.limits import fetch
from .guard.values import read_edit, read_object, stored_edit, whole
from .records import Record, Revision, StoredEdit, StoredRecord
from .schema import (
    CALIBRATION_COLUMNS,
    RECORD_COLUMNS,
    CalibrationRow,
    RecordRow,
    checksum,
    damaged,
    digest,
    new_tables,
)
from .tensors import Tensors, pack, unpack

CHUNK = 400
"""Rows read per query: fewer than SQLite's least limit of parameters, and the file is locked for a short time only."""


def to_json(value: Mapping[str, Any], label: str) -> str:
    """Return JSON text in ASCII, because metadata can have a lone surrogate and SQLite's text cannot.

    Raises:
        StoreError: if ``value``, which the message calls ``label``, has parts that are no JSON values.
    """
    try:
        return json.dumps(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{label} must be JSON: {error}") from None


# ------------------------------------------------------------------------------------------------------------ rows in


def now() -> str:
    """Return the time as rows have it: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def next_id(db: sqlite3.Connection, table: str) -> int:
    """Return the number of the next row of ``table``. No row is ever deleted, so no number is used twice."""
    number: int = db.execute(f"SELECT IFNULL(MAX(id), 0) + 1 FROM {table}").fetchone()[0]
    return number


def insert_first(db: sqlite3.Connection, meta: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tables, ``meta`` and revision 1 of a new store."""
    texts = {key: to_json(value, key) for key, value in meta.items()}
    with new_tables(db):
        added = insert_meta(db, texts)
        insert_revision(db, b"", LogRow(1, now(), "init", "{}", None, [], added.digest()))


def insert_meta(db: sqlite3.Connection, texts: Mapping[str, str]) -> Added:
    """Write the settings, as JSON texts by name, and return the rows that revision 1 adds."""
    added = Added()
    for key, text in texts.items():
        check = checksum(key, text)
        added.add("meta", key, check)
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (key, text, check))
    return added


def insert_calibration(
    db: sqlite3.Connection, added: Added, revision: int, info: str, blob: bytes, fit: int | None = None
) -> int:
    """Write a calibration and return its number; ``fit``: the earlier one whose tensors it has, in place of a blob."""
    number = next_id(db, "calibrations")
    put_calibration(
        db, added, CalibrationRow(number, revision, fit or number, now(), info, digest(blob), len(blob)), blob
    )
    return number


def put_calibration(db: sqlite3.Connection, added: Added, row: CalibrationRow, blob: bytes) -> None:
    """Write the row of a calibration with its tensors."""
    added.add("calibration", row.id, row.check)
    values = (*row[:5], row.check, row.digest, blob)
    db.execute("INSERT INTO calibrations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def insert_record(
    db: sqlite3.Connection, added: Added, revision: int, number: int, record: Record, holder: int
) -> None:
    """Write a record without its keys; ``holder`` is the number of the record that has its block."""
    edit, block = record.edit, pack(record.block)
    report = to_json(record.report | ({"block": holder} if holder != number else {}), "report")
    text = to_json(edit.to_dict(), "edit")
    columns = (number, revision, edit.id, edit.content, int(record.rank), record.reach)
    put_record(db, added, RecordRow(*columns, digest(block), text, report, len(block)), block)


def put_record(db: sqlite3.Connection, added: Added, row: RecordRow, block: bytes) -> None:
    """Write the row of a record with its block."""
    added.add("record", row.id, row.check)
    values = (*row[:6], row.check, row.digest, row.edit, row.report, block)
    db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def insert_keys(db: sqlite3.Connection, added: Added, revision: int, record: int, fit: int, blob: bytes) -> None:
    """Write the keys of a record under the calibration that has the tensors they were made with."""
    check = checksum(record, fit, blob)
    added.add("keys", f"{record} {fit} {len(blob)}", check)
    db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (record, fit, revision, check, blob))


def insert_revision(db: sqlite3.Connection, before: bytes, row: LogRow) -> bytes:
    """Write one revision and its changes, whose ids must differ, and make it the head; return its checksum.

    ``before`` is the checksum of the revision before it.
    """
    facts = (row.time, row.action, row.detail, row.calibration)
    changes = sorted((change.edit_id, change.record, int(change.enabled)) for change in row.changes)
    check = link(before, row.revision, facts, changes, row.added)
    db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?)", (row.revision, *facts, row.added, check))
    db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", [(row.revision, *change) for change in changes])
    db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (row.revision, check))
    return check


# ----------------------------------------------------------------------------------------------------------- rows out


def read_live(db: sqlite3.Connection, name: str | Path, live: Live, fit: int | None) -> dict[str, StoredEdit]:
    """Return live edits by id, in the order of records, each record verified.

    Args:
        db: the open store.
        name: its name in messages.
        live: which edits.
        fit: the calibration whose keys count in ``nbytes``.
    """
    numbers = [record for record, _, _ in live.values()]
    rows = _by_number(db, name, f"SELECT {RECORD_COLUMNS}, sha256 FROM records WHERE id IN", numbers)
    records = {row[0]: checked_record(name, RecordRow(*row), check) for *row, check in rows}
    query = "SELECT record, LENGTH(tensors) FROM keys WHERE calibration = ? AND record IN"
    sizes = dict(_by_number(db, name, query, numbers, fit))
    return assemble(name, live, records, sizes, fit)


def assemble(
    name: str | Path, live: Live, records: Mapping[int, RecordRow], sizes: Mapping[int, int], fit: int | None
) -> dict[str, StoredEdit]:
    """Return live edits by id, from their records and the bytes of their keys, both by record."""
    edits = {}
    for edit_id, (record, enabled, changed) in live.items():
        if (row := records.get(record)) is None:
            raise damaged(name, f"edit {edit_id!r} cannot be read: record {record} is gone")
        if row.edit_id != edit_id:
            raise damaged(name, f"edit {edit_id!r} has the record of another edit")
        if (size := sizes.get(record)) is None:
            raise damaged(name, f"edit {edit_id!r} has no keys under calibration {fit}")
        edits[edit_id] = stored_edit(name, row, enabled, changed, size)
    return edits


def read_calibration(db: sqlite3.Connection, name: str | Path, number: int) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and info of a calibration."""
    info, fit = read_calibration_info(db, name, number)
    row = db.execute("SELECT digest, tensors FROM calibrations WHERE id = ?", (fit,)).fetchone()
    if row is None or not isinstance(row[1], bytes) or digest(row[1]) != row[0]:
        raise damaged(name, f"calibration {fit} does not match its checksum")
    return unpack(row[1], name, f"calibration {fit}"), info


def read_calibration_info(db: sqlite3.Connection, name: str | Path, number: int) -> tuple[dict[str, Any], int]:
    """Return the info of a calibration, and the number of the one that has its tensors."""
    found = db.execute(f"SELECT {CALIBRATION_COLUMNS}, sha256 FROM calibrations WHERE id = ?", (number,)).fetchone()
    row = None if found is None else CalibrationRow(*found[:-1])
    if row is None or row.check != found[-1] or not whole(row.fit, 1, number):
        raise damaged(name, f"calibration {number} does not match its checksum")
    return read_object(name, f"the info of calibration {number}", row.info), row.fit


def _by_number(
    db: sqlite3.Connection, name: str | Path, query: str, numbers: Sequence[int], *parameters: int | None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query that takes ``parameters`` and ends in ``IN``, for ``CHUNK`` numbers at a time."""
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        yield from fetch(db, name, f"{query} ({','.join('?' * len(part))})", (*parameters, *part))


def read_blocks(db: sqlite3.Connection, name: str | Path, records: Sequence[int]) -> dict[int, tuple[RecordRow, bytes]]:
    """Return records with their blocks (safetensors bytes), by number and in the order asked for."""
    rows = {}
    query = f"SELECT {RECORD_COLUMNS}, sha256, block FROM records WHERE id IN"
    for *columns, check, block in _by_number(db, name, query, records):
        row = checked_record(name, RecordRow(*columns), check)
        if not isinstance(block, bytes) or digest(block) != row.digest:
            raise damaged(name, f"edit {row.edit_id!r} does not match its checksum")
        rows[row.id] = (row, block)
    if lost := [number for number in records if number not in rows]:
        raise damaged(name, f"record {lost[0]} is gone")
    return {number: rows[number] for number in records}


def read_keys(db: sqlite3.Connection, name: str | Path, records: Sequence[int], fit: int | None) -> dict[int, bytes]:
    """Return the keys (safetensors bytes) of records under a calibration, by number and in the order asked for."""
    query = "SELECT record, calibration, tensors, sha256 FROM keys WHERE calibration = ? AND record IN"
    rows = _by_number(db, name, query, records, fit)
    blobs = {row[0]: row[2] for row in rows if isinstance(row[2], bytes) and checksum(*row[:3]) == row[3]}
    if lost := [number for number in records if number not in blobs]:
        row = db.execute("SELECT edit_id FROM records WHERE id = ?", (lost[0],)).fetchone()
        what = f"the keys of edit {row[0]!r} do not match their checksum" if row else f"record {lost[0]} is gone"
        raise damaged(name, what)
    return {number: blobs[number] for number in records}


def read_records(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], fit: int | None
) -> dict[int, StoredRecord]:
    """Return records with their tensors, by number and in the order asked for."""
    stored = {}
    for start in range(0, len(records), CHUNK):  # so that the bytes of few records are in memory beside the tensors
        part = records[start : start + CHUNK]
        blocks, keys = read_blocks(db, name, part), read_keys(db, name, part, fit)
        for number, (row, block) in blocks.items():
            what = f"edit {row.edit_id!r}"
            edit = read_edit(name, row.edit_id, row.edit)
            stored[number] = StoredRecord(
                edit, unpack(block, name, f"the block of {what}"), unpack(keys[number], name, f"the keys of {what}")
            )
    return stored


def to_revision(name: str | Path, row: LogRow, edit_id: str | None = None) -> Revision:
    """Return a revision of the log, with all its changes or with that of one edit."""
    detail = read_object(name, f"the detail of revision {row.revision}", row.detail)
    if row.action == "rollback" and not whole(detail.get("to"), 1, row.revision - 1):
        raise damaged(name, f"revision {row.revision} rolls back to no revision")
    changes = [change for change in row.changes if edit_id in (None, change.edit_id)]
    return Revision(row.revision, row.time, row.action, detail, changes)
