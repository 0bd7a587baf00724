"""The chain of checksums over everything that decides what answers, verified whenever a store is opened.

The checksum of a revision covers that of the revision before it, its own row and changes, and the checksums of all rows
that it added: records, keys, calibrations, in revision 1 the settings. So the newest checksum, which ``head`` repeats,
stands for the whole file, scope cache aside. The tensors of a row come under its checksum by their own SHA-256 and
length: they are read, and compared with it, when they are needed.

Opening takes the live edits from the rows that it verified, and not from indexes or other queries.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .guard.limits import stream
from .guard.values import whole
from .records import ChangeRow
from .schema import CALIBRATION_COLUMNS, RECORD_COLUMNS, CalibrationRow, RecordRow, checksum, damaged

Fail = Callable[[str], None]
"""Told of each problem: it raises, or notes it and lets the check go on."""


class Added:
    """The checksums of the rows that one revision adds, in any order."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def add(self, table: str, key: object, check: bytes) -> None:
        """Note a row: its table, what names it there, and its checksum."""
        self._rows.append(f"{table} {key} ".encode("utf-8", "surrogatepass") + check)

    def digest(self) -> bytes:
        """Return one checksum of all these rows."""
        total = hashlib.sha256()
        for row in sorted(self._rows):
            total.update(b"%d:" % len(row) + row)
        return total.digest()


@dataclass(frozen=True)
class LogRow:
    """A revision as it is in the file, its checksum verified; ``detail`` is JSON text."""

    revision: int
    time: str
    action: str
    detail: str
    calibration: int | None
    changes: list[ChangeRow]
    added: bytes


@dataclass
class Rows:
    """What ``check_rows`` verified.

    Attributes:
        meta: JSON texts by name.
        fits: per calibration the one whose tensors and keys it uses.
        records: the records that were asked for, by number.
        keys: the bytes of the keys of each record, by record and calibration.
    """

    meta: dict[str, str] = field(default_factory=dict)
    fits: dict[int, int] = field(default_factory=dict)
    records: dict[int, RecordRow] = field(default_factory=dict)
    keys: dict[tuple[int, int], int] = field(default_factory=dict)


Live = dict[str, tuple[int, bool, int]]
"""Record, enabled, and revision of the latest change of each live edit, by id."""


def link(
    before: bytes,
    revision: int,
    facts: tuple[str, str, str, int | None],
    changes: Sequence[tuple[str, int | None, int]],
    added: bytes,
) -> bytes:
    """Return the checksum of a revision.

    Args:
        before: the checksum of the revision before it; empty for the first one.
        revision: its number.
        facts: its time, action, detail (JSON text) and calibration.
        changes: id, record and enabled of each change, in the order of ids.
        added: the digest of ``Added``.
    """
    return checksum(before, revision, *facts, list(changes), added)


def raiser(name: str | Path) -> Fail:
    """Return what raises the error for a damaged store at the first problem."""

    def fail(what: str) -> None:
        raise damaged(name, what)

    return fail


def newest(db: sqlite3.Connection, name: str | Path) -> tuple[int, bytes]:
    """Return number and checksum of the newest revision, as ``head`` has them; they are not verified here."""
    rows = db.execute("SELECT revision, sha256 FROM head").fetchmany(2)
    if len(rows) != 1 or not whole(rows[0][0], 1, 2**62) or not _is_check(rows[0][1]):
        raise damaged(name, "it does not say which revision is the newest")
    return rows[0][0], rows[0][1]


def check_head(db: sqlite3.Connection, name: str | Path, revision: int, head: bytes) -> None:
    """Check that the newest revision is the one that was loaded, by number and checksum.

    Raises:
        StoreError: if another program changed or overwrote the store since.
    """
    number, checksum_now = newest(db, name)
    (last,) = db.execute("SELECT MAX(revision) FROM revisions").fetchone()
    if (number, last) != (revision, revision):
        change = f"revision {revision}, now {max(number, last or 0)}"
        raise StoreError(f"{name} changed since it was opened ({change}): open it again")
    if checksum_now != head:
        raise StoreError(f"{name} was overwritten since it was opened: open it again")


def read_log(
    db: sqlite3.Connection, name: str | Path, last: int, head: bytes, since: int = 0, fail: Fail | None = None
) -> list[LogRow]:
    """Return the revisions after ``since`` up to ``last``, verified from link to link.

    Args:
        db: the open store.
        name: its name in messages.
        last: the newest revision to return.
        head: the checksum that it must have.
        since: the revision before the first one to return; 0: all.
        fail: told of each problem; ``None``: the first one is an error.
    """
    fail = fail or raiser(name)
    before = b""
    if since:
        row = db.execute("SELECT sha256 FROM revisions WHERE revision = ?", (since,)).fetchone()
        before = row[0] if row is not None and _is_check(row[0]) else b"?"
    within = "WHERE revision > ? AND revision <= ? ORDER BY revision"
    changes: dict[int, list[tuple[str, int | None, int]]] = {}
    query = f"SELECT revision, edit_id, record, enabled FROM changes {within}, edit_id"
    for revision, *change in stream(db, name, query, (since, last)):
        changes.setdefault(revision, []).append(tuple(change))
    log: list[LogRow] = []
    query = f"SELECT revision, time, action, detail, calibration, added, sha256 FROM revisions {within}"
    for number, row in enumerate(stream(db, name, query, (since, last)), since + 1):
        revision, *facts, added, check = row
        if revision != number:
            break
        own = changes.pop(number, [])
        if not sound(facts, own) or link(before, number, tuple(facts), own, added) != check:
            fail(f"revision {number} does not match its checksum")
        before = check
        time, action, detail, calibration = facts
        made = [ChangeRow(i, record, bool(on)) for i, record, on in own]
        log.append(LogRow(number, time, action, detail, calibration, made, added))
    if len(log) != last - since:
        fail(f"revision {since + len(log) + 1} is missing")
    elif before != head:
        fail("its newest revision is not the one that its head names")
    if changes:
        fail(f"it has changes of revision {min(changes)}, which is missing")
    return log


def _is_check(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def sound(facts: Sequence[Any], changes: Sequence[tuple[Any, Any, Any]]) -> bool:
    """Return whether the facts and changes of a revision, as ``link`` takes them, are of the kinds that these have."""
    *texts, calibration = facts
    return (
        all(isinstance(text, str) for text in texts)
        and (calibration is None or whole(calibration, 1, 2**62))
        and all(
            isinstance(edit_id, str) and (record is None or whole(record, 1, 2**62)) and whole(on, 0, 1)
            for edit_id, record, on in changes
        )
    )


def live_after(log: Sequence[LogRow]) -> Live:
    """Return the edits that are live after the last of some revisions, which begin with the first one."""
    live: Live = {}
    for row in log:
        for change in row.changes:
            if change.record is None:
                live.pop(change.edit_id, None)
            else:
                live[change.edit_id] = (change.record, change.enabled, row.revision)
    return dict(sorted(live.items(), key=lambda item: item[1][0]))


# ----------------------------------------------------------------------------------------------------------- the rows


def checked_record(name: str | Path, row: RecordRow, check: Any, fail: Fail | None = None) -> RecordRow:
    """Return a record; a StoreError, or a word to ``fail``, if it does not match its checksum ``check``."""
    if row.check != check:
        (fail or raiser(name))(f"edit {row.edit_id!r} does not match its checksum")
    return row


class _Ledger:
    """Notes the rows of a file under the revisions that added them."""

    def __init__(self, log: Sequence[LogRow], fail: Fail) -> None:
        self._log, self._fail = log, fail
        self._added = [Added() for _ in range(len(log) + 1)]

    def note(self, revision: Any, table: str, key: object, check: Any) -> None:
        """Note a row."""
        if whole(revision, 1, len(self._log)) and _is_check(check):
            self._added[revision].add(table, key, check)
        else:
            self._fail(f"{table} {key} is of no revision")

    def close(self) -> None:
        """Compare what each revision added with what is there."""
        for row in self._log:
            if self._added[row.revision].digest() != row.added:
                self._fail(f"rows that revision {row.revision} added are missing, or are not what it added")


def check_rows(
    db: sqlite3.Connection, name: str | Path, log: Sequence[LogRow], wanted: set[int], fail: Fail | None = None
) -> Rows:
    """Verify every row that the revisions added; tensors are not read.

    Args:
        db: the open store, in a transaction.
        name: its name in messages.
        log: all its revisions.
        wanted: the records that are returned.
        fail: told of each problem; ``None``: the first one is an error.
    """
    fail = fail or raiser(name)
    found, ledger = Rows(), _Ledger(log, fail)
    for key, value, check in stream(db, name, "SELECT key, value, sha256 FROM meta ORDER BY key"):
        if checksum(key, value) != check:
            fail(f"its {key} does not match its checksum")
        ledger.note(1, "meta", key, check)
        found.meta[key] = value
    for *columns, check in stream(db, name, f"SELECT {CALIBRATION_COLUMNS}, sha256 FROM calibrations ORDER BY id"):
        calibration = CalibrationRow(*columns)
        if calibration.check != check:
            fail(f"calibration {calibration.id} does not match its checksum")
        ledger.note(calibration.revision, "calibration", calibration.id, check)
        found.fits[calibration.id] = calibration.fit
    for *columns, check in stream(db, name, f"SELECT {RECORD_COLUMNS}, sha256 FROM records ORDER BY id"):
        record = checked_record(name, RecordRow(*columns), check, fail)
        ledger.note(record.revision, "record", record.id, check)
        if record.id in wanted:
            found.records[record.id] = record
    query = "SELECT record, calibration, revision, LENGTH(tensors), sha256 FROM keys ORDER BY rowid"
    for of, fit, revision, size, check in stream(db, name, query):
        ledger.note(revision, "keys", f"{of} {fit} {size}", check)
        found.keys[of, fit] = size
    ledger.close()
    return found
