"""What a scope knows of its calibration prompts, kept in the store: opening it needs no look at all keys then.

Derived from keys and calibration, so it is the one row of a store that is written anew. It may be missing, or be of an
earlier revision: what has changed since is then taken in, at the cost of the change.
"""

from __future__ import annotations

import sqlite3

from .schema import digest
from .tensors import Tensors, pack, unpack

EVERY = 512
"""Edits that come or go before the lists are written again; opening a store takes in so many at most."""

_TABLE = """CREATE TABLE lists (id INTEGER PRIMARY KEY CHECK (id = 1), calibration INTEGER NOT NULL,
    revision INTEGER NOT NULL, sha256 BLOB NOT NULL, tensors BLOB NOT NULL)"""
_ROW = "SELECT calibration, revision, tensors, sha256 FROM lists"


def write(db: sqlite3.Connection, calibration: int, revision: int, tensors: Tensors) -> None:
    """Write the lists that were made of the edits live at a revision, under a calibration."""
    values = (calibration, revision, pack(tensors))
    db.execute("BEGIN IMMEDIATE")
    db.execute("DROP TABLE IF EXISTS lists")  # whatever another version, or damage, has made of it
    db.execute(_TABLE)
    db.execute("INSERT INTO lists VALUES (1, ?, ?, ?, ?)", (*values[:2], digest(*values), values[2]))
    db.execute("COMMIT")


def read(db: sqlite3.Connection, calibration: int) -> tuple[int, Tensors] | None:
    """Return revision and lists; ``None`` if there are none of this calibration, or they are damaged."""
    try:
        row = db.execute(_ROW).fetchone()
    except sqlite3.OperationalError:  # no such table, or one with other columns
        return None
    if row is None or row[0] != calibration or digest(*row[:3]) != row[3]:
        return None
    try:
        return row[1], unpack(row[2])
    except Exception:  # safetensors has errors of many classes, and what can be derived stops nobody
        return None
