"""Statistics: how often each edit answered, and when last, beside the store; never in the way of an answer."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..oversight.near_misses import is_near

if TYPE_CHECKING:
    from ..results import Route
    from ..types import Prompt

logger = logging.getLogger(__name__)

DAY = 86_400
HOUR = 3_600
PER_EDIT = 200
"""Prompts of an edit that are kept, at most: the latest."""
PENDING = 100_000
"""Answers that wait to be written, at most; the oldest are dropped if the disk does not keep up."""

TABLES = """
CREATE TABLE IF NOT EXISTS hits (
    edit TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL, last REAL NOT NULL,
    PRIMARY KEY (edit, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prompts (
    id INTEGER PRIMARY KEY, edit TEXT NOT NULL, time REAL NOT NULL, fired INTEGER NOT NULL, reason TEXT NOT NULL,
    score REAL, prompt TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS prompts_by_edit ON prompts (edit, id);
"""


class Hits(NamedTuple):
    """How often an edit answered, and when last, in seconds since 1970."""

    times: int
    last: float


class KeptPrompt(NamedTuple):
    """A prompt that an edit answered, or came near to.

    Attributes:
        edit: the edit's id.
        time: when, in seconds since 1970.
        fired: whether it answered.
        reason: why, or why not.
        score: the judge's probability; ``None`` without a judge.
        prompt: the prompt.
    """

    edit: str
    time: float
    fired: bool
    reason: str
    score: float | None
    prompt: Any


class Statistics:
    """The hits of a store.

    Args:
        store: the store's path.
        keep_days: how many days prompts are kept; ``None``: none is kept, and those of before are deleted.
    """

    def __init__(self, store: str | Path, keep_days: float | None = None) -> None:
        self.path = Path(f"{store}.hits")
        self._keep = keep_days
        self._pending: deque[tuple[float, Prompt, Route]] = deque(maxlen=PENDING)
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meloedit-hits", daemon=True)
        self._failed = False
        self._tidied = 0.0

    def start(self) -> None:
        """Begin to write, once a second."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is pending, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def note(self, prompt: Prompt, route: Route) -> None:
        """Take note of an answer. It only joins a list in memory."""
        if route.edit is not None or (self._keep is not None and route.nearest is not None and is_near(route)):
            self._pending.append((time.time(), prompt, route))

    def flush(self) -> None:
        """Write what is pending; a failure is logged once, and what was pending is lost."""
        with self._writing:
            noted = [self._pending.popleft() for _ in range(len(self._pending))]
            tidy = time.time() - self._tidied > HOUR
            if not noted and not (tidy and self.path.exists()):
                return
            try:
                with self._open() as db:
                    self._write(db, noted)
                    if tidy:
                        self._tidy(db)
                self._failed = False
            except sqlite3.Error as error:
                if not self._failed:
                    logger.warning("%s: hits are not counted (%s); answers go on", self.path, error)
                self._failed = True

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self.flush()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=5)) as db, db:
            db.executescript(TABLES)
            yield db

    def _write(self, db: sqlite3.Connection, noted: list[tuple[float, Prompt, Route]]) -> None:
        for at, prompt, route in noted:
            if route.edit is not None:
                db.execute(
                    "INSERT INTO hits VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET count = count + 1, "
                    "last = MAX(last, excluded.last)",
                    (_text(route.edit), int(at // HOUR), at),
                )
            if self._keep is not None:
                near = _text(route.edit or route.nearest or "")
                values = (near, at, route.edit is not None, route.reason, route.score, json.dumps(prompt))
                db.execute(
                    "INSERT INTO prompts (edit, time, fired, reason, score, prompt) VALUES (?,?,?,?,?,?)", values
                )

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Delete prompts that are too old, or too many of one edit."""
        self._tidied = time.time()
        db.execute("DELETE FROM prompts WHERE time < ?", (self._tidied - DAY * (self._keep or 0),))
        db.execute(
            "DELETE FROM prompts WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER "
            "(PARTITION BY edit ORDER BY id DESC) AS place FROM prompts) WHERE place > ?)",
            (PER_EDIT,),
        )

    # -- reading

    def hits(self) -> dict[str, Hits]:
        """Return the hits of every edit that has some, by id."""
        found = self._read("SELECT edit, SUM(count), MAX(last) FROM hits GROUP BY edit")
        return {edit: Hits(count, last) for edit, count, last in found}

    def by_hour(self, edit: str | None = None, hours: int = 24 * 7) -> list[tuple[str, int, int]]:
        """Return id, hour (in seconds since 1970) and hits of the last hours, of one edit or of all."""
        since = int(time.time() // HOUR) - hours
        chosen = "" if edit is None else " AND edit = ?"
        found = self._read(
            f"SELECT edit, hour, count FROM hits WHERE hour > ?{chosen} ORDER BY hour, edit",  # noqa: S608
            (since,) if edit is None else (since, _text(edit)),
        )
        return [(name, hour * HOUR, count) for name, hour, count in found]

    def prompts(self, edit: str | None = None, near: bool = False, limit: int = 100) -> list[KeptPrompt]:
        """Return kept prompts, the latest first: those that edits answered, or those that came near."""
        chosen = "" if edit is None else " AND edit = ?"
        values = (not near,) if edit is None else (not near, _text(edit))
        found = self._read(
            f"SELECT edit, time, fired, reason, score, prompt FROM prompts WHERE fired = ?{chosen} "  # noqa: S608
            "ORDER BY id DESC LIMIT ?",
            (*values, limit),
        )
        return [KeptPrompt(e, at, bool(fired), why, score, json.loads(p)) for e, at, fired, why, score, p in found]

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        self.flush()
        if not self.path.exists():
            return []
        try:
            with self._open() as db:
                return db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            logger.warning("%s cannot be read (%s)", self.path, error)
            return []


def _text(edit: str) -> str:
    return edit.encode("utf-8", "replace").decode()
