"""The file of a store: its tables, how it is made, locked, opened and checked, and what each failure means in words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import StoreError

APPLICATION_ID = 0x4D454C4F  # "MELO": what makes a SQLite file a store of ours
FORMAT = 1

# Bytes of file per edit (25,900 of block, 2,200 of keys, 400 of text; mean of 200), by page size: 1024: 29,076;
# 2048: 29,061; 4096: 30,843; 8192: 29,450 by luck of these very sizes. A row of keys fills little more than half of a
# page of 4096, and no other row fits into the rest. Reading costs 50, 50, 43 and 16 us per edit: nothing to wait for.
PAGE_SIZE = 2048

# Nothing is ever updated or deleted: records, keys and calibrations are immutable, and the changes say which of them
# count, and when. Long blobs come last in their row, so that the small columns are read without walking through them.
TABLES = """
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
"""

# SQLite takes the other columns of a group with one max() from the row that holds the maximum: the latest change.
STATE_AT = """SELECT edit_id, record, enabled, MAX(revision) AS revision FROM changes
    WHERE revision <= ? GROUP BY edit_id"""
CHANGED_AT = "SELECT edit_id, record, enabled, revision FROM changes WHERE revision = ?"


def digest(*parts: Any) -> bytes:
    """Return one checksum over JSON values and bytes."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else _json(part)
        total.update(b"%d:" % len(data) + data)  # so that no two lists of parts look alike
    return total.digest()


def _json(part: Any) -> bytes:
    """Return ``json.dumps(part)`` as bytes; text and whole numbers, of which a store is full, without its detours."""
    if type(part) is str:
        return json.encoder.encode_basestring_ascii(part).encode()
    return b"%d" % part if type(part) is int else json.dumps(part).encode()


def damaged(name: str | Path, what: object) -> StoreError:
    """Return the error for a store whose contents cannot be right."""
    return StoreError(f"{name} is damaged ({' '.join(str(what).split())}); restore it from a copy")
