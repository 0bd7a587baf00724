"""Format 3, the one before the chain of checksums: its tables, and its rows as those of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..schema import CONVERTED as EARLIER_FORMAT
from ..schema import checksum

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE calibrations (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, info TEXT NOT NULL, sha256 BLOB NOT NULL, tensors BLOB NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, edit_id TEXT NOT NULL, edit TEXT NOT NULL, content TEXT NOT NULL, rank INTEGER NOT NULL,
    reach TEXT NOT NULL, report TEXT NOT NULL, sha256 BLOB NOT NULL, block BLOB NOT NULL);
CREATE TABLE keys (
    record INTEGER NOT NULL REFERENCES records (id), calibration INTEGER NOT NULL REFERENCES calibrations (id),
    sha256 BLOB NOT NULL, tensors BLOB NOT NULL, PRIMARY KEY (record, calibration));
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY, time TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
    calibration INTEGER REFERENCES calibrations (id), sha256 BLOB NOT NULL);
CREATE TABLE changes (
    revision INTEGER NOT NULL REFERENCES revisions (revision), edit_id TEXT NOT NULL,
    record INTEGER REFERENCES records (id), enabled INTEGER NOT NULL, PRIMARY KEY (revision, edit_id)) WITHOUT ROWID;
CREATE INDEX changes_by_edit ON changes (edit_id, revision);
CREATE TABLE scope_cache (
    id INTEGER PRIMARY KEY CHECK (id = 1), calibration INTEGER NOT NULL, revision INTEGER NOT NULL,
    sha256 BLOB NOT NULL, tensors BLOB NOT NULL);
"""
EARLIER_STATEMENTS = tuple(part.strip() for part in _TABLES.split(";") if part.strip())
"""The statements that made a store of format 3."""

__all__ = ["EARLIER_FORMAT", "EARLIER_QUERIES", "EARLIER_STATEMENTS", "as_today", "revision_holds"]

EARLIER_QUERIES = {
    "calibrations": "SELECT id, 0, id, created, info, tensors, sha256 FROM calibrations WHERE id = ?",
    "records": "SELECT id, 0, edit_id, content, rank, reach, edit, report, block, sha256 FROM records WHERE id = ?",
    "keys": "SELECT record, calibration, 0, tensors, sha256 FROM keys WHERE rowid = ?",
    "revisions": "SELECT revision, time, action, detail, calibration, x'', sha256 FROM revisions WHERE revision = ?",
}
"""Queries for one row of each table, with the columns of today's; a zero stands for the revision that added it."""


def as_today(table: str, row: Sequence[Any]) -> bool:
    """Return whether a row of format 3 matches its checksum, given the columns of ``EARLIER_QUERIES``."""
    *values, check = row
    if table == "calibrations":
        number, _, _, created, info, tensors = values
        return checksum(number, created, info, tensors) == check
    number, _, edit_id, content, rank, reach, edit, report, block = values
    return checksum(number, edit_id, edit, content, rank, reach, report, block) == check


def revision_holds(row: Sequence[Any], changes: Sequence[tuple[Any, ...]]) -> bool:
    """Return whether a revision of format 3 and its changes match its checksum."""
    revision, *facts, _, check = row
    return checksum(revision, *facts, list(changes)) == check


def added_at(
    log: Mapping[int, tuple[Sequence[Any], Sequence[tuple[Any, ...]]]],
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the revisions that first named each record and each calibration: those that added them."""
    records: dict[int, int] = {}
    calibrations: dict[int, int] = {}
    for number, (facts, changes) in sorted(log.items()):
        if facts[3] is not None:
            calibrations.setdefault(facts[3], number)
        for _, record, _ in changes:
            if record is not None:
                records.setdefault(record, number)
    return records, calibrations
