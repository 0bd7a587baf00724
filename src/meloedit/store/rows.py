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

from ..edit import Edit
from ..errors import EditError, StoreError
from .records import ChangeRow, Record, Revision, StoredEdit, StoredRecord
from .schema import APPLICATION_ID, FORMAT, PAGE_SIZE, STATE_AT, TABLES, checksum, damaged
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def next_id(db: sqlite3.Connection, table: str) -> int:
    """Return the number of the next row of ``table``. No row is ever deleted, so no number is used twice."""
    number: int = db.execute(f"SELECT IFNULL(MAX(id), 0) + 1 FROM {table}").fetchone()[0]
    return number


def insert_first(db: sqlite3.Connection, meta: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tables, ``meta`` and revision 1 of a new store."""
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    db.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";"):  # executescript() would commit first
        db.execute(statement)
    for key, value in meta.items():
        text = to_json(value, key)
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (key, text, checksum(key, text)))
    insert_revision(db, 1, "init", {}, None, [])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def insert_calibration(db: sqlite3.Connection, info: Mapping[str, Any], tensors: Tensors) -> int:
    """Write a calibration and return its number."""
    values = (next_id(db, "calibrations"), _now(), to_json(info, "info"))
    blob = pack(tensors)
    db.execute("INSERT INTO calibrations VALUES (?, ?, ?, ?, ?)", (*values, checksum(*values, blob), blob))
    return values[0]


def insert_record(db: sqlite3.Connection, number: int, record: Record, holder: int) -> None:
    """Write a record without its keys; ``holder`` is the number of the record that has its block."""
    edit, block = record.edit, pack(record.block)
    report = to_json(record.report | ({"block": holder} if holder != number else {}), "report")
    values = (number, edit.id, to_json(edit.to_dict(), "edit"), edit.content, int(record.rank), record.reach, report)
    db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, checksum(*values, block), block))


def insert_keys(db: sqlite3.Connection, record: int, calibration: int | None, keys: Tensors) -> None:
    """Write the keys of a record under a calibration."""
    blob = pack(keys)
    check = checksum(record, calibration, blob)
    db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (record, calibration, check, blob))


def insert_revision(
    db: sqlite3.Connection,
    revision: int,
    action: str,
    detail: Mapping[str, Any],
    calibration: int | None,
    changes: Sequence[ChangeRow],
) -> None:
    """Write one revision and its changes, whose ids must differ."""
    values = (revision, _now(), action, to_json(detail, "detail"), calibration)
    rows = sorted((change.edit_id, change.record, int(change.enabled)) for change in changes)
    check = checksum(*values, rows)
    db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", (*values, check))
    db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", [(revision, *row) for row in rows])


# ----------------------------------------------------------------------------------------------------------- rows out


def read_meta(db: sqlite3.Connection, name: str | Path) -> dict[str, dict[str, Any]]:
    """Return what the store was created with, under ``model`` and ``config``."""
    rows = {key: (value, check) for key, value, check in db.execute("SELECT key, value, sha256 FROM meta").fetchall()}
    for key in ("model", "config"):
        if key not in rows or checksum(key, rows[key][0]) != rows[key][1]:
            raise damaged(name, f"its {key} does not match its checksum")
    return {key: json.loads(value) for key, (value, _) in rows.items()}


def newest_revision(db: sqlite3.Connection, name: str | Path) -> tuple[int, int | None, bytes]:
    """Return the newest revision, the calibration in force after it, and its checksum, which is not verified."""
    row = db.execute("SELECT revision, calibration, sha256 FROM revisions ORDER BY revision DESC LIMIT 1").fetchone()
    if row is None:
        raise damaged(name, "it has no revisions")
    return row[0], row[1], row[2]


def calibration_at(db: sqlite3.Connection, name: str | Path, revision: int) -> int | None:
    """Return the calibration that was in force after a revision. The revision's checksum is not verified."""
    row = db.execute("SELECT calibration FROM revisions WHERE revision = ?", (revision,)).fetchone()
    if row is None:
        raise damaged(name, f"revision {revision} is missing")
    number: int | None = row[0]
    return number


def snapshot(db: sqlite3.Connection, revision: int) -> dict[str, tuple[int, bool]]:
    """Return record and enabled of each edit that was live at a revision, in the order of records; not verified."""
    query = f"SELECT edit_id, record, enabled FROM ({STATE_AT}) WHERE record NOT NULL ORDER BY record"
    return {edit_id: (record, bool(on)) for edit_id, record, on in db.execute(query, (revision,)).fetchall()}


def read_live(
    db: sqlite3.Connection, name: str | Path, changes: str, revision: int, calibration: int | None
) -> dict[str, StoredEdit]:
    """Return live edits by id, in the order of records. No checksum is verified: they cover the tensors, too.

    Args:
        db: the open store.
        name: its name in messages.
        changes: the query that selects the changes to look at: ``STATE_AT`` or ``CHANGED_AT``.
        revision: the parameter of that query.
        calibration: the calibration whose keys count in ``nbytes``.
    """
    # LEFT JOIN keeps SQLite from walking through all records for their order, and shows that a record is gone.
    query = f"""SELECT c.edit_id, c.enabled, c.revision, r.id, r.edit, r.rank, r.reach, r.report,
        LENGTH(r.block) + LENGTH(k.tensors) FROM ({changes}) c LEFT JOIN records r ON r.id = c.record
        LEFT JOIN keys k ON k.record = r.id AND k.calibration = ? WHERE c.record NOT NULL ORDER BY r.id"""
    live = {}
    for edit_id, on, changed, record, text, rank, reach, report, size in db.execute(
        query, (revision, calibration)
    ).fetchall():
        try:
            edit = Edit.from_dict(json.loads(text))
            stored = StoredEdit(edit, bool(on), int(rank), reach, json.loads(report), changed, record, size)
        except (ValueError, TypeError, RecursionError, EditError) as error:
            raise damaged(name, f"edit {edit_id!r} cannot be read: {error}") from None
        if size is None:
            raise damaged(name, f"edit {edit_id!r} has no keys under calibration {calibration}")
        if edit.id != edit_id:
            raise damaged(name, f"edit {edit_id!r} holds the id {edit.id!r}")
        live[edit_id] = stored
    return live


def read_calibration(db: sqlite3.Connection, name: str | Path, number: int) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and info of a calibration."""
    query = "SELECT id, created, info, tensors, sha256 FROM calibrations WHERE id = ?"
    row = db.execute(query, (number,)).fetchone()
    if row is None or checksum(*row[:4]) != row[4]:
        raise damaged(name, f"calibration {number} does not match its checksum")
    return unpack(row[3]), json.loads(row[2])


def read_calibration_info(db: sqlite3.Connection, name: str | Path, number: int) -> dict[str, Any]:
    """Return the info of a calibration. The checksum is not verified, because it also covers the tensors."""
    row = db.execute("SELECT info FROM calibrations WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise damaged(name, f"calibration {number} is gone")
    return json.loads(row[0])


def _by_number(
    db: sqlite3.Connection, query: str, numbers: Sequence[int], *parameters: int | None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query that takes ``parameters`` and ends in ``IN``, for ``CHUNK`` numbers at a time."""
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        yield from db.execute(f"{query} ({','.join('?' * len(part))})", (*parameters, *part)).fetchall()


def read_blocks(db: sqlite3.Connection, name: str | Path, records: Sequence[int]) -> dict[int, tuple[str, bytes]]:
    """Return edit (JSON) and block (safetensors bytes) of records, by number and in the order asked for."""
    query = "SELECT id, edit_id, edit, content, rank, reach, report, block, sha256 FROM records WHERE id IN"
    rows = {}
    for *values, check in _by_number(db, query, records):
        if checksum(*values) != check:
            raise damaged(name, f"edit {values[1]!r} does not match its checksum")
        rows[values[0]] = (values[2], values[7])
    if lost := [number for number in records if number not in rows]:
        raise damaged(name, f"record {lost[0]} is gone")
    return {number: rows[number] for number in records}


def read_keys(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], calibration: int | None
) -> dict[int, bytes]:
    """Return the keys (safetensors bytes) of records under a calibration, by number and in the order asked for."""
    query = "SELECT record, calibration, tensors, sha256 FROM keys WHERE calibration = ? AND record IN"
    rows = _by_number(db, query, records, calibration)
    blobs = {row[0]: row[2] for row in rows if checksum(*row[:3]) == row[3]}
    if lost := [number for number in records if number not in blobs]:
        row = db.execute("SELECT edit_id FROM records WHERE id = ?", (lost[0],)).fetchone()
        what = f"the keys of edit {row[0]!r} do not match their checksum" if row else f"record {lost[0]} is gone"
        raise damaged(name, what)
    return {number: blobs[number] for number in records}


def read_records(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], calibration: int | None
) -> dict[int, StoredRecord]:
    """Return records with their tensors, by number and in the order asked for."""
    stored = {}
    for start in range(0, len(records), CHUNK):  # so that the bytes of few records are in memory beside the tensors
        part = records[start : start + CHUNK]
        blocks, keys = read_blocks(db, name, part), read_keys(db, name, part, calibration)
        for number, (edit, block) in blocks.items():
            stored[number] = StoredRecord(Edit.from_dict(json.loads(edit)), unpack(block), unpack(keys[number]))
    return stored


def read_history(
    db: sqlite3.Connection, name: str | Path, newest: int, edit_id: str | None, limit: int | None
) -> list[Revision]:
    """Return revisions, newest last. No checksum is verified.

    Args:
        db: the open store.
        name: its name in messages.
        newest: the newest revision to return.
        edit_id: if given, only the revisions that changed this edit, each with that one change.
        limit: if given, only so many of the newest ones.
    """
    one, value = ("", ()) if edit_id is None else ("AND edit_id = ?", (edit_id,))
    among = one and f"AND revision IN (SELECT revision FROM changes WHERE TRUE {one})"
    query = f"""SELECT revision, time, action, detail FROM revisions WHERE revision <= ? {among}
        ORDER BY revision DESC LIMIT ?"""
    rows = db.execute(query, (newest, *value, -1 if limit is None else min(max(limit, 0), 2**63 - 1))).fetchall()[::-1]
    changes: dict[int, list[ChangeRow]] = {row[0]: [] for row in rows}
    query = f"""SELECT revision, edit_id, record, enabled FROM changes WHERE revision BETWEEN ? AND ? {one}
        ORDER BY revision, edit_id"""
    span = (rows[0][0], rows[-1][0]) if rows else (0, 0)
    for revision, changed, record, on in db.execute(query, (*span, *value)).fetchall():
        changes.setdefault(revision, []).append(ChangeRow(changed, record, bool(on)))
    try:
        return [Revision(n, time, action, json.loads(detail), changes[n]) for n, time, action, detail in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(name, f"a revision cannot be read: {error}") from None
