"""The tables of a store, their format number, and its rows with their checksums."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import StoreError
from ..text import shorten

APPLICATION_ID = 0x4D454C4F
"""The bytes "MELO", in SQLite's field for the program that a database belongs to."""
FORMAT = 4
"""The number of the layout below. A store of any other format is refused."""
CONVERTED = 3
"""The one earlier format that ``meloedit repair`` brings over."""

# Bytes of file per edit by page size (25,900 of block, 2,200 of keys, 400 of text; mean of 200 edits): 1024: 29,076;
# 2048: 29,061; 4096: 30,843; 8192: 29,450, by chance of these sizes. A row of keys fills little more than half of a
# page of 4096, and no other row fits into the rest. Reading takes 50, 50, 43 and 16 us per edit, which nobody notices.
PAGE_SIZE = 2048

# Rows are only added: records, keys and calibrations never change, and the changes say which of them count, and when.
# The exceptions are scope_cache, which can be computed from the others, and head, which repeats the newest revision.
# Long blobs come last in their row, so that SQLite reads the small columns without walking through the blobs.
STATEMENTS = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE calibrations (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, fit INTEGER NOT NULL, "
    "created TEXT NOT NULL, info TEXT NOT NULL, sha256 BLOB NOT NULL, digest BLOB NOT NULL, tensors BLOB NOT NULL)",
    "CREATE TABLE records (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, edit_id TEXT NOT NULL, "
    "content TEXT NOT NULL, rank INTEGER NOT NULL, reach TEXT NOT NULL, sha256 BLOB NOT NULL, digest BLOB NOT NULL, "
    "edit TEXT NOT NULL, report TEXT NOT NULL, block BLOB NOT NULL)",
    "CREATE TABLE keys (record INTEGER NOT NULL REFERENCES records (id), "
    "calibration INTEGER NOT NULL REFERENCES calibrations (id), revision INTEGER NOT NULL, "
    "sha256 BLOB NOT NULL, tensors BLOB NOT NULL, PRIMARY KEY (record, calibration))",
    "CREATE TABLE revisions (revision INTEGER PRIMARY KEY, time TEXT NOT NULL, action TEXT NOT NULL, "
    "detail TEXT NOT NULL, calibration INTEGER REFERENCES calibrations (id), added BLOB NOT NULL, "
    "sha256 BLOB NOT NULL)",
    "CREATE TABLE changes (revision INTEGER NOT NULL REFERENCES revisions (revision), edit_id TEXT NOT NULL, "
    "record INTEGER REFERENCES records (id), enabled INTEGER NOT NULL, PRIMARY KEY (revision, edit_id)) WITHOUT ROWID",
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, sha256 BLOB NOT NULL)",
    "CREATE TABLE scope_cache (id INTEGER PRIMARY KEY CHECK (id = 1), calibration INTEGER NOT NULL, "
    "revision INTEGER NOT NULL, sha256 BLOB NOT NULL, tensors BLOB NOT NULL)",
)

SCHEMA_OF = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema"
"""The query that reads a schema. A root page is part of it: a wrong one would let a write go into another table."""


@contextmanager
def new_tables(db: sqlite3.Connection, statements: Sequence[str] = STATEMENTS) -> Iterator[None]:
    """Make the tables of a store in an empty database; the transaction is committed if nothing is raised."""
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    db.execute("BEGIN IMMEDIATE")
    for statement in statements:  # executescript() would commit first
        db.execute(statement)
    yield
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


@cache
def schema_rows(statements: tuple[str, ...] = STATEMENTS) -> tuple[tuple[Any, ...], ...]:
    """Return what ``SCHEMA_OF`` gives for the tables of a store."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        with new_tables(db, statements):
            pass
        return tuple(db.execute(SCHEMA_OF).fetchall())


def checksum(*parts: Any) -> bytes:
    """Return the SHA-256 over a list of JSON values and bytes.

    Each part is preceded by its length, so that no two different lists yield the same bytes.
    """
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else _json(part)
        total.update(b"%d:" % len(data))
        total.update(data)  # apart, for a blob is long to copy
    return total.digest()


def _json(part: Any) -> bytes:
    """Return ``json.dumps(part)`` as bytes, by a short cut for text and whole numbers: a store is full of them."""
    if type(part) is str:
        return json.encoder.encode_basestring_ascii(part).encode()
    return b"%d" % part if type(part) is int else json.dumps(part).encode()


class RecordRow(NamedTuple):
    """A row of ``records`` without its block, whose digest and ``size`` it has, and without its checksum."""

    id: int
    revision: int
    edit_id: str
    content: str
    rank: int
    reach: str
    digest: bytes
    edit: str
    report: str
    size: int

    @property
    def check(self) -> bytes:
        """The checksum that the row must have."""
        return checksum("record", *self)


class CalibrationRow(NamedTuple):
    """A row of ``calibrations`` without its tensors, whose digest and ``size`` it has, and without its checksum."""

    id: int
    revision: int
    fit: int
    created: str
    info: str
    digest: bytes
    size: int

    @property
    def check(self) -> bytes:
        """The checksum that the row must have."""
        return checksum("calibration", *self)


RECORD_COLUMNS = "id, revision, edit_id, content, rank, reach, digest, edit, report, LENGTH(block)"
CALIBRATION_COLUMNS = "id, revision, fit, created, info, digest, LENGTH(tensors)"
"""The columns in the order of the rows above."""


def digest(blob: bytes) -> bytes:
    """Return the SHA-256 of the bytes of tensors, which a row has beside its own checksum.

    So a row can be checked without reading its tensors, and these when they are read.
    """
    return hashlib.sha256(blob).digest()


def damaged(name: str | Path, what: object) -> StoreError:
    """Return the error for a store whose contents cannot be right; ``what`` becomes one line."""
    return StoreError(
        f"{name} is damaged ({shorten(str(what), 200)}); restore it from a copy, or save what can be: meloedit repair"
    )
