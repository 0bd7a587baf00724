"""The check of a whole store: its pages, its references, its checksums, its history."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from .schema import STATE_AT, checksum

_CHECKED = (
    ("calibration {0}", "id, created, info, tensors", "calibrations"),
    ("edit {1!r} (record {0})", "id, edit_id, edit, content, rank, reach, report, block", "records"),
    ("the keys of record {0} under calibration {1}", "record, calibration, tensors", "keys"),
)
"""Per table: the name of a row in messages, formatted with its columns; the columns under its checksum; the table."""

_BEYOND_ALL = 2**62
"""A revision later than any: the state after it is the newest one."""


def problems(db: sqlite3.Connection) -> Iterator[str]:
    """Yield one line for each problem of an open store. The scope cache is left out: damage there costs nothing."""
    for (line,) in db.execute("PRAGMA integrity_check(20)").fetchall():
        if line != "ok":
            yield f"SQLite: {line}"
    for table, row, parent, _ in db.execute("PRAGMA foreign_key_check").fetchall():
        yield f"{table}: row {row} refers to something missing in {parent}"
    for key, value, check in db.execute("SELECT key, value, sha256 FROM meta").fetchall():
        if checksum(key, value) != check:
            yield f"meta {key!r} does not match its checksum"
    for label, columns, table in _CHECKED:
        for *values, check in _all_rows(db, f"{columns}, sha256", table):
            if checksum(*values) != check:
                yield f"{label.format(*values)}: does not match its checksum"
    yield from _history_problems(db)


def _all_rows(db: sqlite3.Connection, columns: str, table: str) -> Iterator[Sequence[Any]]:
    """Yield all rows of a table, by 200 per query: a long query would block writers, and all may not fit in memory."""
    query = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT 200"
    last, rows = 0, db.execute(query, (0,)).fetchall()
    while rows and rows[-1][0] > last:  # a damaged table can yield rows out of order: stop, or this would never end
        yield from (row[1:] for row in rows)
        last = rows[-1][0]
        rows = db.execute(query, (last,)).fetchall()


def _history_problems(db: sqlite3.Connection) -> Iterator[str]:
    changes: dict[int, list[Any]] = {}
    query = "SELECT revision, edit_id, record, enabled FROM changes ORDER BY edit_id"
    for revision, *change in db.execute(query).fetchall():
        changes.setdefault(revision, []).append(change)
    query = "SELECT revision, time, action, detail, calibration, sha256 FROM revisions ORDER BY revision"
    for number, (*values, check) in enumerate(db.execute(query).fetchall(), 1):
        if values[0] != number:
            yield f"revision {number} is missing"
            return
        if checksum(*values, changes.get(number, [])) != check:
            yield f"revision {number} does not match its checksum"
    query = "SELECT c.revision, c.edit_id FROM changes c JOIN records r ON r.id = c.record WHERE r.edit_id <> c.edit_id"
    for revision, edit_id in db.execute(query).fetchall():
        yield f"revision {revision} gives edit {edit_id!r} the record of another edit"
    records = {record for (record,) in db.execute("SELECT id FROM records").fetchall()}
    for record, report in _all_rows(db, "id, report", "records"):
        if json.loads(report).get("block", record) not in records:
            yield f"record {record} shares the block of a record that is missing"
    last = "(SELECT calibration FROM revisions ORDER BY revision DESC LIMIT 1)"
    query = f"""SELECT c.edit_id FROM {last} v JOIN ({STATE_AT}) c LEFT JOIN keys k
        ON k.record = c.record AND k.calibration = v.calibration WHERE c.record NOT NULL AND k.record IS NULL"""
    for (edit_id,) in db.execute(query, (_BEYOND_ALL,)).fetchall():
        yield f"edit {edit_id!r} has no keys under the calibration in force"
