"""Format 3, the one before the chain of checksums: its tables, and its rows as those of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..chain import LogRow
from ..schema import CalibrationRow, RecordRow, checksum

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

EARLIER_QUERIES = {
    "calibrations": "SELECT id, 0, id, created, info, x'', LENGTH(tensors), sha256, tensors FROM calibrations "
    "WHERE id = ?",
    "records": "SELECT id, 0, edit_id, content, rank, reach, x'', edit, report, LENGTH(block), sha256, block "
    "FROM records WHERE id = ?",
    "keys": "SELECT record, calibration, 0, tensors, sha256 FROM keys WHERE rowid = ?",
    "revisions": "SELECT revision, time, action, detail, calibration, x'', sha256 FROM revisions WHERE revision = ?",
}
"""Queries for one row of each table, with the columns of today's; a zero stands for the revision that added it, and
no bytes for the digest of its tensors."""


def calibration_check(row: CalibrationRow, tensors: bytes) -> bytes:
    """Return the checksum that a calibration of format 3 must have."""
    return checksum(row.id, row.created, row.info, tensors)


def record_check(row: RecordRow, block: bytes) -> bytes:
    """Return the checksum that a record of format 3 must have."""
    return checksum(row.id, row.edit_id, row.edit, row.content, row.rank, row.reach, row.report, block)


def revision_check(revision: int, facts: Sequence[Any], changes: Sequence[tuple[Any, ...]]) -> bytes:
    """Return the checksum that a revision of format 3 must have."""
    return checksum(revision, *facts, list(changes))


def added_at(log: Mapping[int, LogRow]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the revisions that first named each record and each calibration: those that added them."""
    records: dict[int, int] = {}
    calibrations: dict[int, int] = {}
    for number, row in sorted(log.items()):
        if row.calibration is not None:
            calibrations.setdefault(row.calibration, number)
        for change in row.changes:
            if change.record is not None:
                records.setdefault(change.record, number)
    return records, calibrations
