"""The scope's nearest keys of each calibration prompt, cached in the store so that opening it compares no keys.

They follow from the keys and the calibration, so this is the one row of a store that is overwritten. It may be absent,
or belong to an earlier revision: the edits that changed since then are applied on opening. Its checksum covers that of
the revision, so a cache of another store, or of what was rolled out of this one, is none.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import StoreError
from .schema import checksum
from .tensors import Tensors, pack, unpack


def write(db: sqlite3.Connection, calibration: int, revision: int, head: bytes, tensors: Tensors) -> None:
    """Replace the cache, in one transaction.

    Args:
        db: the open store.
        calibration: the calibration under which the tensors were computed.
        revision: the revision whose enabled edits they cover.
        head: the checksum of that revision.
        tensors: the cached values.
    """
    blob = pack(tensors)
    check = checksum(calibration, revision, head, blob)
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO scope_cache VALUES (1, ?, ?, ?, ?)", (calibration, revision, check, blob))
    db.execute("COMMIT")


def read(db: sqlite3.Connection, calibration: int, newest: int) -> tuple[int, Tensors] | None:
    """Return revision and tensors of the cache; ``None`` if it is absent, damaged, or of another calibration.

    ``newest`` is the newest revision that the cache may belong to.
    """
    row = db.execute("SELECT calibration, revision, tensors, sha256 FROM scope_cache").fetchone()
    if row is None or row[0] != calibration or type(row[1]) is not int or not 1 <= row[1] <= newest:
        return None
    of = db.execute("SELECT sha256 FROM revisions WHERE revision = ?", (row[1],)).fetchone()
    if of is None or not isinstance(row[2], bytes) or checksum(row[0], row[1], of[0], row[2]) != row[3]:
        return None
    try:
        return row[1], unpack(row[2], Path(), "the scope cache", finite=False)
    except StoreError:  # a cache that can be computed must stop nobody
        return None
