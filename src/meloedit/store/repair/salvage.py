"""Read what is whole in a damaged file, row by row: a page that cannot be read costs the rows on it, and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import StoreError
from .. import chain
from ..guard.values import read_edit, read_report, whole
from ..schema import FORMAT, checksum, digest
from .earlier import EARLIER_QUERIES, added_at, as_today, revision_holds

ROWS_PER_PAGE = 100
"""Most rows on a page: no row has a greater number than that times the pages."""

_QUERIES = {
    "calibrations": "SELECT id, revision, fit, created, info, tensors, digest, sha256 FROM calibrations WHERE id = ?",
    "records": "SELECT id, revision, edit_id, content, rank, reach, edit, report, block, digest, sha256 FROM records "
    "WHERE id = ?",
    "keys": "SELECT record, calibration, revision, tensors, sha256 FROM keys WHERE rowid = ?",
    "revisions": "SELECT revision, time, action, detail, calibration, added, sha256 FROM revisions WHERE revision = ?",
}
_KEY = {"calibrations": "id", "records": "id", "keys": "rowid", "revisions": "revision"}


Logged = tuple[tuple[str, str, str, int | None], list[tuple[str, int | None, int]]]
"""Time, action, detail and calibration of a revision, and its changes."""


@dataclass
class Saved:
    """What is whole in a file.

    Attributes:
        meta: JSON texts by name.
        calibrations: revision, fit, created, info and tensors by number.
        records: the columns of ``chain.RECORD_COLUMNS`` (checksum left out) and the block, by number. The block is
            ``None`` if it does not match its checksum.
        keys: revision and tensors, by record and calibration.
        log: facts and changes of each revision, by number.
        newest: the greatest number of a revision that the file speaks of.
        problems: a line for each thing that is not whole.
    """

    meta: dict[str, str] = field(default_factory=dict)
    calibrations: dict[int, tuple[int, int, str, str, bytes]] = field(default_factory=dict)
    records: dict[int, tuple[tuple[Any, ...], bytes | None]] = field(default_factory=dict)
    keys: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)
    log: dict[int, Logged] = field(default_factory=dict)
    newest: int = 0
    problems: list[str] = field(default_factory=list)


def salvage(db: sqlite3.Connection, number: int) -> Saved:
    """Read what is whole in a file of format ``number``."""
    saved = Saved()
    queries = _QUERIES if number == FORMAT else EARLIER_QUERIES
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
        if row is not None and number == FORMAT:
            _, *facts, added, check = row
            sound = chain.link(before, revision, tuple(facts), changes, added) == check
            before = check if isinstance(check, bytes) else b""
        else:
            sound = row is not None and revision_holds(row, changes)
        if row is not None and sound:
            saved.log[revision] = ((row[1], row[2], row[3], row[4]), changes)
        else:
            saved.problems.append(f"revision {revision} is damaged or gone: what it changed is unknown")


def _keep_calibration(saved: Saved, row: Sequence[Any], number: int) -> None:
    id_, revision, fit, created, info, tensors = row[:6]
    if number == FORMAT:
        size = len(tensors) if isinstance(tensors, bytes) else -1
        sound = size >= 0 and digest(tensors) == row[6]
        sound = sound and chain.calibration_check(id_, revision, fit, created, info, row[6], size) == row[7]
    else:
        sound = as_today("calibrations", row)
    if sound:
        saved.calibrations[id_] = (revision, fit, created, info, tensors)
    else:
        saved.problems.append(f"calibration {id_} is damaged")


def _keep_record(saved: Saved, row: Sequence[Any], number: int) -> None:
    id_, revision, edit_id, content, rank, reach, edit, report, block = row[:9]
    intact = isinstance(block, bytes)
    size = len(block) if intact else -1
    columns = (id_, revision, edit_id, content, rank, reach, row[9], edit, report, size)
    if number == FORMAT:
        sound = chain.record_check(columns) == row[10]
        intact = intact and digest(block) == row[9]
    else:
        sound = as_today("records", row)
        columns = (*columns[:6], digest(block) if intact else b"", *columns[7:])
    try:
        read_edit("", edit_id, edit), read_report("", id_, edit_id, report)
    except StoreError:
        sound = False
    if sound:
        saved.records[id_] = (columns, block if intact else None)
    if not sound or not intact:
        saved.problems.append(
            f"{'edit ' + repr(edit_id) if isinstance(edit_id, str) else 'an edit'} (record {id_}) is damaged"
        )


def _date(saved: Saved) -> None:
    """Fill in which revision added each row, which format 3 does not say."""
    records, calibrations = added_at(saved.log)
    for number, (_, fit, created, info, blob) in saved.calibrations.items():
        saved.calibrations[number] = (calibrations.get(number, 1), fit, created, info, blob)
    for number, (columns, block) in saved.records.items():
        saved.records[number] = ((columns[0], records.get(number, 1), *columns[2:]), block)
    for (record, fit), (_, tensors) in saved.keys.items():
        saved.keys[record, fit] = (max(records.get(record, 1), calibrations.get(fit, 1)), tensors)
