"""Read what is whole in a damaged file, row by row: a page that cannot be read costs the rows on it, and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import StoreError
from .. import chain
from ..guard.values import read_edit, read_report, whole
from ..records import ChangeRow
from ..schema import CALIBRATION_COLUMNS, FORMAT, RECORD_COLUMNS, CalibrationRow, RecordRow, checksum, digest
from . import earlier

ROWS_PER_PAGE = 100
"""Most rows on a page: no row has a greater number than that times the pages."""

_QUERIES = {
    "calibrations": f"SELECT {CALIBRATION_COLUMNS}, sha256, tensors FROM calibrations WHERE id = ?",
    "records": f"SELECT {RECORD_COLUMNS}, sha256, block FROM records WHERE id = ?",
    "keys": "SELECT record, calibration, revision, tensors, sha256 FROM keys WHERE rowid = ?",
    "revisions": "SELECT revision, time, action, detail, calibration, added, sha256 FROM revisions WHERE revision = ?",
}
_KEY = {"calibrations": "id", "records": "id", "keys": "rowid", "revisions": "revision"}


@dataclass
class Saved:
    """What is whole in a file.

    Attributes:
        meta: JSON texts by name.
        calibrations: row and tensors by number.
        records: row and block by number. The block is ``None`` if it does not match its checksum.
        keys: revision and tensors, by record and calibration.
        log: the revisions by number.
        newest: the greatest number of a revision that the file speaks of.
        problems: a line for each thing that is not whole.
    """

    meta: dict[str, str] = field(default_factory=dict)
    calibrations: dict[int, tuple[CalibrationRow, bytes]] = field(default_factory=dict)
    records: dict[int, tuple[RecordRow, bytes | None]] = field(default_factory=dict)
    keys: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)
    log: dict[int, chain.LogRow] = field(default_factory=dict)
    newest: int = 0
    problems: list[str] = field(default_factory=list)


def salvage(db: sqlite3.Connection, number: int) -> Saved:
    """Read what is whole in a file of format ``number``."""
    saved = Saved()
    queries = _QUERIES if number == FORMAT else earlier.EARLIER_QUERIES
    for key, value, check in _tolerant(db, "SELECT key, value, sha256 FROM meta"):
        if checksum(key, value) == check:
            saved.meta[key] = value
    _read_log(db, saved, queries["revisions"], number)
    for row in _rows(db, saved, "calibrations", queries):
        _keep_calibration(saved, row, number)
    for row in _rows(db, saved, "records", queries):
        _keep_record(saved, row, number)
    for record, fit, revision, tensors, check in _rows(db, saved, "keys", queries):
        if isinstance(tensors, bytes) and checksum(record, fit, tensors) == check:
            saved.keys[record, fit] = (revision, tensors)
        else:
            saved.problems.append(f"the keys of record {record} under calibration {fit} are damaged")
    if number != FORMAT:
        _date(saved)
    return saved


def _tolerant(db: sqlite3.Connection, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query up to the first that cannot be read."""
    try:
        yield from db.execute(query, values)
    except (sqlite3.Error, UnicodeError, OverflowError):
        return


def _most(db: sqlite3.Connection, table: str) -> int:
    """Return a number that no row of a table exceeds."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    greatest = [row[0] for row in _tolerant(db, f"SELECT MAX({_KEY[table]}) FROM {table}")]
    scanned = [row[0] for row in _tolerant(db, f"SELECT {_KEY[table]} FROM {table}")]
    known = [number for number in (*greatest, *scanned) if type(number) is int and 0 < number <= ROWS_PER_PAGE * pages]
    return max(known, default=0)


def _rows(db: sqlite3.Connection, saved: Saved, table: str, queries: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table, each looked up by its number."""
    for number in range(1, _most(db, table) + 1):
        row = next(_tolerant(db, queries[table], (number,)), None)
        if row is None:
            saved.problems.append(f"row {number} of {table} is gone")
        else:
            yield row


def _read_log(db: sqlite3.Connection, saved: Saved, query: str, number: int) -> None:
    last, before = _most(db, "revisions"), b""
    heads = list(_tolerant(db, "SELECT revision FROM head")) if number == FORMAT else []
    saved.newest = max([last, *(row[0] for row in heads if whole(row[0], 1, last + 10_000))])
    of = "SELECT edit_id, record, enabled FROM changes WHERE revision = ? ORDER BY edit_id"
    for revision in range(1, saved.newest + 1):
        row = next(_tolerant(db, query, (revision,)), None)
        changes = list(_tolerant(db, of, (revision,)))
        kept = None if row is None else _revision(row, changes, before, number)
        if kept is None:
            saved.problems.append(f"revision {revision} is damaged or gone: what it changed is unknown")
        else:
            saved.log[revision] = kept
        if row is not None:
            before = row[-1] if isinstance(row[-1], bytes) else b""


def _revision(
    row: Sequence[Any], changes: Sequence[tuple[Any, Any, Any]], before: bytes, number: int
) -> chain.LogRow | None:
    """Return a revision if it and its changes match their checksum; ``before``: the checksum of the one before it."""
    revision, time, action, detail, calibration, added, check = row
    facts = (time, action, detail, calibration)
    if not chain.sound(facts, changes):
        return None
    if number == FORMAT:
        right = chain.link(before, revision, facts, changes, added)
    else:
        right = earlier.revision_check(revision, facts, changes)
    made = [ChangeRow(edit_id, record, bool(on)) for edit_id, record, on in changes]
    return chain.LogRow(revision, *facts, made, added) if right == check else None


def _keep_calibration(saved: Saved, columns: Sequence[Any], number: int) -> None:
    *values, check, tensors = columns
    row, sound = CalibrationRow(*values), isinstance(tensors, bytes)
    if number == FORMAT:
        sound = sound and digest(tensors) == row.digest and row.check == check
    else:
        sound = sound and earlier.calibration_check(row, tensors) == check
        row = row._replace(digest=digest(tensors) if sound else b"")
    if sound:
        saved.calibrations[row.id] = (row, tensors)
    else:
        saved.problems.append(f"calibration {row.id} is damaged")


def _keep_record(saved: Saved, columns: Sequence[Any], number: int) -> None:
    *values, check, block = columns
    row, intact = RecordRow(*values), isinstance(block, bytes)
    if number == FORMAT:
        sound = row.check == check
        intact = intact and digest(block) == row.digest
    else:
        sound = earlier.record_check(row, block) == check
        row = row._replace(digest=digest(block) if intact else b"")
    try:
        read_edit("", row.edit_id, row.edit), read_report("", row.id, row.edit_id, row.report)
    except StoreError:
        sound = False
    if sound:
        saved.records[row.id] = (row, block if intact else None)
    if not sound or not intact:
        what = f"edit {row.edit_id!r}" if isinstance(row.edit_id, str) else "an edit"
        saved.problems.append(f"{what} (record {row.id}) is damaged")


def _date(saved: Saved) -> None:
    """Fill in which revision added each row, which format 3 does not say."""
    records, calibrations = earlier.added_at(saved.log)
    for number, (calibration, tensors) in saved.calibrations.items():
        saved.calibrations[number] = (calibration._replace(revision=calibrations.get(number, 1)), tensors)
    for number, (record, block) in saved.records.items():
        saved.records[number] = (record._replace(revision=records.get(number, 1)), block)
    for (of, fit), (_, tensors) in saved.keys.items():
        saved.keys[of, fit] = (max(records.get(of, 1), calibrations.get(fit, 1)), tensors)
