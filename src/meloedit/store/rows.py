"""What a store holds: rows in and rows out, each with its checksum."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..edit import Edit
from ..errors import EditError, StoreError
from .records import ChangeRow, Record, Revision, StoredEdit, StoredRecord
from .schema import APPLICATION_ID, CHANGED_AT, FORMAT, PAGE_SIZE, STATE_AT, TABLES, damaged, digest
from .tensors import Stack, Tensors, pack, stacked, unpack

CHUNK = 400  # blocks read at once: below every SQLite's limit of parameters, and a short hold on the file


@dataclass(frozen=True)
class State:
    """What is loaded of a store: never changed in place, so that any thread may read it while another one writes."""

    revision: int
    calibration: int | None
    live: dict[str, StoredEdit]
    head: bytes  # checksum of the revision, which has its time in it: tells this store from another one
    changed: frozenset[str] | None = None  # ids that the revision changed; None: that was not followed

    @classmethod
    def load(cls, db: sqlite3.Connection, name: str | Path) -> State:
        """Return the newest state."""
        revision, calibration, head = newest_revision(db, name)
        return cls(revision, calibration, read_live(db, name, STATE_AT, revision, calibration), head)

    def after(
        self, db: sqlite3.Connection, name: str | Path, changes: Sequence[ChangeRow], calibration: int | None
    ) -> State:
        """Return the state after one more revision, reading only what that changed."""
        if calibration != self.calibration:  # every edit has other keys now
            return self.load(db, name)
        changed = frozenset(change.edit_id for change in changes)
        new = read_live(db, name, CHANGED_AT, self.revision + 1, calibration)
        live = dict(self.live)  # ten thousand edits in 0.1 ms; a comprehension takes ten times as long
        newest = next(reversed(live.values())).record if live else 0
        for edit_id in changed.intersection(live):
            if edit_id not in new or new[edit_id].record != live[edit_id].record:
                del live[edit_id]
        in_order = all(edit_id in live or stored.record > newest for edit_id, stored in new.items())
        live |= new
        if not in_order:  # a rollback brings old records back
            live = dict(sorted(live.items(), key=lambda item: item[1].record))
        return State(self.revision + 1, calibration, live, newest_revision(db, name)[2], changed)


def to_json(value: Mapping[str, Any], name: str) -> str:
    """Return JSON text, ASCII only: SQLite cannot hold a lone surrogate, a prompt can.

    Raises:
        StoreError: if ``value`` is not made of what JSON knows.
    """
    try:
        return json.dumps(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name} must be JSON: {error}") from None


# ------------------------------------------------------------------------------------------------------------ rows in


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def next_id(db: sqlite3.Connection, table: str) -> int:
    """Return the number of the next row of ``table``; numbers are never used again, as no row ever leaves."""
    number: int = db.execute(f"SELECT IFNULL(MAX(id), 0) + 1 FROM {table}").fetchone()[0]
    return number


def insert_first(db: sqlite3.Connection, meta: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the tables and revision 1 of a new store."""
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    db.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";"):  # executescript() would commit first
        db.execute(statement)
    for key, value in meta.items():
        text = to_json(value, key)
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (key, text, digest(key, text)))
    insert_revision(db, 1, "init", {}, None, [])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def insert_calibration(db: sqlite3.Connection, info: Mapping[str, Any], tensors: Tensors) -> int:
    """Write a calibration and return its number."""
    values = (next_id(db, "calibrations"), _now(), to_json(info, "info"))
    blob = pack(tensors)
    db.execute("INSERT INTO calibrations VALUES (?, ?, ?, ?, ?)", (*values, digest(*values, blob), blob))
    return values[0]


def insert_record(db: sqlite3.Connection, number: int, record: Record, holder: int) -> None:
    """Write a record without its keys; ``holder`` is the record that holds its block."""
    edit, block = record.edit, pack(record.block)
    report = to_json(record.report | ({"block": holder} if holder != number else {}), "report")
    values = (number, edit.id, to_json(edit.to_dict(), "edit"), edit.content, int(record.rank), record.reach, report)
    db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, digest(*values, block), block))


def insert_keys(db: sqlite3.Connection, record: int, calibration: int | None, keys: Tensors) -> None:
    """Write the keys of a record under a calibration."""
    blob = pack(keys)
    check = digest(record, calibration, blob)
    db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (record, calibration, check, blob))


def insert_revision(
    db: sqlite3.Connection,
    revision: int,
    action: str,
    detail: Mapping[str, Any],
    calibration: int | None,
    changes: Sequence[ChangeRow],
) -> None:
    """Write one row of the history and its changes."""
    values = (revision, _now(), action, to_json(detail, "detail"), calibration)
    rows = sorted((change.edit_id, change.record, int(change.enabled)) for change in changes)  # ids differ
    check = digest(*values, rows)
    db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", (*values, check))
    db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", [(revision, *row) for row in rows])


# ----------------------------------------------------------------------------------------------------------- rows out


def read_meta(db: sqlite3.Connection, name: str | Path) -> dict[str, dict[str, Any]]:
    """Return what the store was made with: ``model`` and ``config``."""
    rows = {key: (value, check) for key, value, check in db.execute("SELECT key, value, sha256 FROM meta").fetchall()}
    for key in ("model", "config"):
        if key not in rows or digest(key, rows[key][0]) != rows[key][1]:
            raise damaged(name, f"its {key} does not match its checksum")
    return {key: json.loads(value) for key, (value, _) in rows.items()}


def newest_revision(db: sqlite3.Connection, name: str | Path) -> tuple[int, int | None, bytes]:
    """Return the newest revision, the calibration in force after it, and its checksum."""
    row = db.execute("SELECT revision, calibration, sha256 FROM revisions ORDER BY revision DESC LIMIT 1").fetchone()
    if row is None:
        raise damaged(name, "it has no revisions")
    return row[0], row[1], row[2]


def calibration_at(db: sqlite3.Connection, name: str | Path, revision: int) -> int | None:
    """Return the calibration that was in force after a revision."""
    row = db.execute("SELECT calibration FROM revisions WHERE revision = ?", (revision,)).fetchone()
    if row is None:
        raise damaged(name, f"revision {revision} is missing")
    number: int | None = row[0]
    return number


def snapshot(db: sqlite3.Connection, revision: int) -> dict[str, tuple[int, bool]]:
    """Return record and enabled of each edit that was live at a revision, in the order of records."""
    query = f"SELECT edit_id, record, enabled FROM ({STATE_AT}) WHERE record NOT NULL ORDER BY record"
    return {edit_id: (record, bool(on)) for edit_id, record, on in db.execute(query, (revision,)).fetchall()}


def read_live(
    db: sqlite3.Connection, name: str | Path, changes: str, revision: int, calibration: int | None
) -> dict[str, StoredEdit]:
    """Return the live edits among ``changes``, in the order of records."""
    # CROSS JOIN keeps SQLite from walking through all records for the sake of their order.
    query = f"""SELECT c.edit_id, c.enabled, c.revision, r.id, r.edit, r.rank, r.reach, r.report,
        LENGTH(r.block) + LENGTH(k.tensors) FROM ({changes}) c CROSS JOIN records r ON r.id = c.record
        LEFT JOIN keys k ON k.record = r.id AND k.calibration = ? ORDER BY r.id"""
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
    if row is None or digest(*row[:4]) != row[4]:
        raise damaged(name, f"calibration {number} does not match its checksum")
    return unpack(row[3]), json.loads(row[2])


def read_calibration_info(db: sqlite3.Connection, name: str | Path, number: int) -> dict[str, Any]:
    """Return the info of a calibration alone; its checksum, which is over the tensors too, is not looked at."""
    row = db.execute("SELECT info FROM calibrations WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise damaged(name, f"calibration {number} is gone")
    return json.loads(row[0])


def _checked_rows(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], calibration: int | None
) -> Iterator[Sequence[Any]]:
    query = """SELECT r.id, r.edit_id, r.edit, r.content, r.rank, r.reach, r.report, r.block, r.sha256,
        k.record, k.calibration, k.tensors, k.sha256 FROM records r
        LEFT JOIN keys k ON k.record = r.id AND k.calibration = ? WHERE r.id IN """
    for start in range(0, len(records), CHUNK):
        some = records[start : start + CHUNK]
        for row in db.execute(f"{query} ({','.join('?' * len(some))})", (calibration, *some)).fetchall():
            if digest(*row[:8]) != row[8]:
                raise damaged(name, f"edit {row[1]!r} does not match its checksum")
            if row[12] is None or digest(*row[9:12]) != row[12]:
                raise damaged(name, f"the keys of edit {row[1]!r} do not match their checksum")
            yield row


def read_records(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], calibration: int | None
) -> dict[int, StoredRecord]:
    """Return some records with block and keys, by their numbers."""
    rows = _checked_rows(db, name, records, calibration)
    return {row[0]: StoredRecord(Edit.from_dict(json.loads(row[2])), unpack(row[7]), unpack(row[11])) for row in rows}


def read_stacks(
    db: sqlite3.Connection, name: str | Path, records: Sequence[int], calibration: int | None
) -> tuple[list[Stack], list[Stack]]:
    """Return the blocks and the keys of some records, those of one layout together."""
    rows = list(_checked_rows(db, name, records, calibration))
    return stacked({row[0]: row[7] for row in rows}), stacked({row[0]: row[11] for row in rows})


def read_history(
    db: sqlite3.Connection, name: str | Path, upto: int, edit_id: str | None, limit: int | None
) -> list[Revision]:
    """Return the last revisions, newest last; of one edit where an id is given, and then with its change only."""
    one, value = ("", ()) if edit_id is None else ("AND edit_id = ?", (edit_id,))
    some = one and f"AND revision IN (SELECT revision FROM changes WHERE TRUE {one})"
    query = f"""SELECT revision, time, action, detail FROM revisions WHERE revision <= ? {some}
        ORDER BY revision DESC LIMIT ?"""
    rows = db.execute(query, (upto, *value, -1 if limit is None else max(limit, 0))).fetchall()[::-1]
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
