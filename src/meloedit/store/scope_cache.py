"""The scope's nearest keys of each calibration prompt, cached in the store so that opening it compares no keys.

They follow from the keys and the calibration, so this is the one row of a store that is overwritten. It may be absent,
or belong to an earlier revision: the edits that changed since then are applied on opening.
"""

from __future__ import annotations

import sqlite3

from .schema import checksum
from .tensors import Tensors, pack, unpack


def write(db: sqlite3.Connection, calibration: int, revision: int, tensors: Tensors) -> None:
    """Replace the cache, in one transaction.

    Args:
        db: the open store.
        calibration: the calibration under which the tensors were computed.
        revision: the revision whose enabled edits they cover.
        tensors: the cached values.
    """
    blob = pack(tensors)
    check = checksum(calibration, revision, blob)
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO scope_cache VALUES (1, ?, ?, ?, ?)", (calibration, revision, check, blob))
    db.execute("COMMIT")


def read(db: sqlite3.Connection, calibration: int) -> tuple[int, Tensors] | None:
    """Return revision and tensors of the cache; ``None`` if it is absent, damaged, or of another calibration."""
    row = db.execute("SELECT calibration, revision, tensors, sha256 FROM scope_cache").fetchone()
    if row is None or row[0] != calibration or checksum(*row[:3]) != row[3]:
        return None
    try:
        return row[1], unpack(row[2])
    except Exception:  # safetensors raises errors of many classes, and a cache that can be computed must stop nobody
        return None
