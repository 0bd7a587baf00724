"""What a scope knows of its calibration prompts, kept in the store: opening it needs no look at all keys then.

Derived from keys and calibration, so it is the one row of a store that is written anew. It may be missing, or be of an
earlier revision: what has changed since is then taken in, at the cost of the change.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from .packing import Tensors, pack, unpack
from .schema import digest

EVERY = 512
"""Edits that come or go before the lists are written again: taking in so many takes a tenth of a second."""

_TABLE = """CREATE TABLE IF NOT EXISTS lists (id INTEGER PRIMARY KEY CHECK (id = 1), calibration INTEGER NOT NULL,
    revision INTEGER NOT NULL, sha256 BLOB NOT NULL, tensors BLOB NOT NULL)"""
_ROW = "SELECT calibration, revision, tensors, sha256 FROM lists"


def write(db: sqlite3.Connection, calibration: int, revision: int, tensors: Tensors) -> None:
    """Write the lists that were made of the edits live at a revision, under a calibration."""
    values = (calibration, revision, pack(tensors))
    db.execute("BEGIN IMMEDIATE")
    db.execute(_TABLE)
    db.execute("REPLACE INTO lists VALUES (1, ?, ?, ?, ?)", (*values[:2], digest(*values), values[2]))
    db.execute("COMMIT")


def read(db: sqlite3.Connection, calibration: int) -> tuple[int, Tensors] | None:
    """Return revision and lists; ``None`` if there are none of this calibration, or they are damaged."""
    if not (row := _row(db)) or row[0] != calibration or digest(*row[:3]) != row[3]:
        return None
    return row[1], unpack(row[2])


def problems(db: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong with the lists."""
    if (row := _row(db)) and digest(*row[:3]) != row[3]:
        yield "the lists of the scope do not match their checksum (they are made anew where they are needed)"


def _row(db: sqlite3.Connection) -> tuple[int, int, bytes, bytes] | None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'lists'").fetchone():
        return None
    row: tuple[int, int, bytes, bytes] | None = db.execute(_ROW).fetchone()
    return row
