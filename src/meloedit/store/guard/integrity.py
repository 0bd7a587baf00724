"""The check of a whole store: its pages, its references, its bounds, the chain of checksums and every tensor's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import StoreError
from .. import chain, database, rows
from ..schema import checksum, damaged, digest
from .values import read_object

MOST_LINES = 200
"""Problems that are listed; a file with more is not worth a longer list."""


def _digest(blob: Any) -> bytes:
    return digest(blob) if isinstance(blob, bytes) else b""


_BLOBS = (
    ("calibration {0}", "id, digest, tensors", "calibrations", lambda row: _digest(row[2]) == row[1]),
    ("edit {1!r} (record {0})", "id, edit_id, digest, block", "records", lambda row: _digest(row[3]) == row[2]),
    (
        "the keys of record {0} under calibration {1}",
        "record, calibration, tensors, sha256",
        "keys",
        lambda row: checksum(*row[:3]) == row[3],
    ),
)
"""Per table with tensors: what a row is called, formatted with its columns; the columns; the table; the test of one."""


def check_pages(db: sqlite3.Connection, name: str | Path) -> None:
    """Check that every page of the file is used once, or free: before anything is written into it.

    Raises:
        StoreError: with what SQLite says of the first page that is not.
    """
    if (found := db.execute("PRAGMA quick_check(1)").fetchall()) != [("ok",)]:
        raise damaged(name, f"SQLite: {found[0][0] if found else 'nothing'}")


def verify(path: str | Path) -> list[str]:
    """Return one line per problem of a store's file, whether or not it can be opened; none if all is well.

    Every page, reference, bound and checksum is checked. The scope cache is left out: it is used only if it is whole,
    and computed again if it is not.

    Raises:
        StoreError: if there is no such file.
    """
    file = database.real_path(path)
    database.file_id(file, path)
    lines: list[str] = []
    try:
        with database.open_database(file, path) as db:
            _problems(db, path, lines.append)
    except StoreError as error:
        lines.append(str(error))
    except (ValueError, TypeError, OverflowError) as error:  # values of kinds that no store has
        lines.append(str(damaged(path, error)))
    return list(dict.fromkeys(lines))[:MOST_LINES]


def _problems(db: sqlite3.Connection, name: str | Path, tell: Callable[[str], None]) -> None:
    for (line,) in db.execute("PRAGMA integrity_check(20)").fetchall():
        if line != "ok":
            tell(f"SQLite: {' '.join(str(line).split())}")
    for table, row, parent, _ in db.execute("PRAGMA foreign_key_check").fetchall():
        tell(f"{table}: row {row} refers to something missing in {parent}")
    db.execute("BEGIN")
    revision, head = chain.newest(db, name)
    if (last := db.execute("SELECT MAX(revision) FROM revisions").fetchone()[0]) != revision:
        tell(f"its head names revision {revision}, the newest one is {last}")
        head = b""
    log = chain.read_log(db, name, last or 0, head, fail=tell)
    wanted = {record for (record,) in db.execute("SELECT id FROM records").fetchall()}
    found = chain.check_rows(db, name, log, wanted, tell)
    _check_values(name, log, found, tell)
    _check_blobs(db, tell)


def _check_values(
    name: str | Path, log: Sequence[chain.LogRow], found: chain.Rows, tell: Callable[[str], None]
) -> None:
    """Check that every text can be read, and that live edits have records and keys."""
    for key in ("model", "config"):
        _try(tell, partial(read_object, name, f"its {key}", found.meta.get(key)))
    for row in log:
        _try(tell, partial(rows.to_revision, name, row))
    fit = None if not log or log[-1].calibration is None else found.fits.get(log[-1].calibration)
    sizes = {record: size for (record, of), size in found.keys.items() if of == fit}
    for edit_id, value in chain.live_after(log).items():
        _try(tell, partial(rows.assemble, name, {edit_id: value}, found.records, sizes, fit))


def _check_blobs(db: sqlite3.Connection, tell: Callable[[str], None]) -> None:
    """Check the tensors of every row by their own checksums."""
    for label, columns, table, whole in _BLOBS:
        for values in _all_rows(db, columns, table):
            if not whole(values):
                tell(f"{label.format(*values)}: does not match its checksum")


def _try(tell: Callable[[str], None], check: Callable[[], object]) -> None:
    try:
        check()
    except StoreError as error:
        tell(str(error))


def _all_rows(db: sqlite3.Connection, columns: str, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield all rows of a table, one in memory at a time."""
    last = None
    for rowid, *row in db.execute(f"SELECT rowid, {columns} FROM {table} ORDER BY rowid"):
        if last is not None and rowid <= last:  # a damaged table can yield rows out of order: stop, or never end
            return
        last = rowid
        yield tuple(row)
