"""A working copy of a damaged file, with a sound first page and schema.

meloedit makes the tables of every store in the same order, so they begin on the same pages in every file. Hence the
pages of the schema can be taken from a new store: the tables behind them are found again, and whatever else a schema
brought along is gone.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...errors import StoreError
from ..database import connect, store_error
from ..guard.limits import limit_steps
from ..schema import (
    APPLICATION_ID,
    CONVERTED,
    FORMAT,
    PAGE_SIZE,
    SCHEMA_OF,
    STATEMENTS,
    new_tables,
    schema_rows,
)
from .earlier import EARLIER_STATEMENTS

_PAGES_AT, _FREE_AT, _CHANGED_AT, _VALID_FOR_AT = 28, 32, 24, 92
"""Where the first page has the number of pages, the list of free ones, and two counters. https://sqlite.org/fileformat"""


@contextmanager
def working_copy(path: Path, name: str | Path) -> Iterator[tuple[sqlite3.Connection, int, bool]]:
    """Open a copy of a store's file that has the tables of a known format.

    Yields:
        The connection; the format; whether the schema had to be put in place of the file's own.

    Raises:
        StoreError: if the file cannot be read at all.
    """
    with TemporaryDirectory(prefix="meloedit-repair-") as folder:
        copy = Path(folder) / "copy.melo"
        try:
            shutil.copyfile(path, copy)
            if (journal := Path(f"{path}-journal")).is_file():  # of a change that was cut off: it is rolled back
                shutil.copyfile(journal, f"{copy}-journal")
        except OSError as error:
            raise StoreError(f"{name} cannot be copied ({error.strerror or error}): free some space") from None
        number = _format(copy)
        replaced = number is None
        if number is None:
            _put_schema(copy)
            number = FORMAT
        try:
            with closing(connect(copy, "rw")) as db:
                limit_steps(db)
                db.text_factory = _text
                yield db, number, replaced
        except sqlite3.Error as error:
            raise store_error(name, error) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # what this changes does not match its checksum


def _format(copy: Path) -> int | None:
    """Return the format whose tables the file has, to the letter; ``None`` if it has those of none."""
    try:
        with closing(connect(copy, "rw")) as db:
            found = tuple(db.execute(SCHEMA_OF).fetchmany(50))
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return None
    except (sqlite3.Error, UnicodeError):
        return None
    known = {FORMAT: STATEMENTS, CONVERTED: EARLIER_STATEMENTS}
    return next((number for number, statements in known.items() if found == schema_rows(statements)), None)


def _put_schema(copy: Path) -> None:
    """Write the pages of a new store's schema over those of the file."""
    fresh = copy.with_name("fresh.melo")
    with closing(connect(fresh, "rwc")) as db:
        with new_tables(db):
            pass
        roots = {row[3] for row in db.execute(SCHEMA_OF).fetchall()}
    new, data = fresh.read_bytes(), bytearray(copy.read_bytes())
    data += bytes(-len(data) % PAGE_SIZE)
    data += bytes(max(0, len(new) - len(data)))
    for page in range(1, len(new) // PAGE_SIZE + 1):
        if page not in roots:
            part = slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE)
            data[part] = new[part]
    data[_PAGES_AT : _PAGES_AT + 4] = (len(data) // PAGE_SIZE).to_bytes(4, "big")
    data[_FREE_AT : _FREE_AT + 8] = bytes(8)
    data[_VALID_FOR_AT : _VALID_FOR_AT + 4] = data[_CHANGED_AT : _CHANGED_AT + 4]
    copy.write_bytes(data)
    Path(f"{copy}-journal").unlink(missing_ok=True)
