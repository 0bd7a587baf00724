"""Limits of a connection to a file that anyone may have written: its schema, the steps of a query, the bytes it reads.

The schema is compared with a store's own, to the letter, before anything else is read. So no trigger, view, generated
column, foreign CHECK or index of the file's maker ever runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..schema import SCHEMA_OF, damaged, schema_rows

STEPS, STEPS_PER_PAGE = 2_000_000, 4_000
"""Steps of SQLite's machine that a connection may take, and more of them per page: a page has at most 100 rows."""
EVERY = 50_000
"""Steps between two looks at how many were taken."""
LEAST_BYTES = 1_000_000
"""Bytes that a query may return of the smallest file; of others as many as the file has."""


def limit_steps(db: sqlite3.Connection) -> None:
    """End every query that takes more steps than a file of this size can need: damaged pages can lead in circles."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    most = (STEPS + STEPS_PER_PAGE * pages) // EVERY
    taken = 0

    def too_many() -> bool:
        nonlocal taken
        taken += 1
        return taken > most

    db.set_progress_handler(too_many, EVERY)


def distrust(db: sqlite3.Connection) -> None:
    """Let nothing run that the file brings along, and keep no page of it in a map of memory that may be cut off."""
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        db.execute(f"PRAGMA {pragma}").fetchall()


def check_schema(db: sqlite3.Connection, name: str | Path) -> None:
    """Check that the schema is a store's own.

    Raises:
        StoreError: naming the table, index, view or trigger that is missing, changed or not a store's.
    """
    own = schema_rows()
    found = db.execute(SCHEMA_OF).fetchmany(len(own) + 1)
    if tuple(found) == own:
        return
    known = {row[:3]: row for row in own}
    foreign = next((row for row in found if known.get(row[:3]) != row), None)
    if foreign is None:
        missing = next(row for row in own if row not in found)
        raise damaged(name, f"it has no {missing[0]} {missing[1]}")
    kind = f"{foreign[0]} {foreign[1]!r}"
    raise damaged(name, f"its {kind} is not as meloedit makes it" if foreign[:3] in known else f"its {kind} is foreign")


def fetch(db: sqlite3.Connection, name: str | Path, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query that reads no row twice.

    Raises:
        StoreError: if they have more bytes than the whole file, as rows that share their pages can.
    """
    return list(stream(db, name, query, values))


def stream(
    db: sqlite3.Connection, name: str | Path, query: str, values: Sequence[Any] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, as ``fetch`` returns them, so that they are not all in memory.

    No COMMIT succeeds before the last one was taken.
    """
    (pages,), (size,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
    left = max(LEAST_BYTES, pages * size)
    for row in db.execute(query, values):
        left -= sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if left < 0:
            raise damaged(name, "its rows have more bytes than the file")
        yield row
