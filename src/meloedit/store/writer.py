"""Writing a store: one writer at a time, and one transaction for each change."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import chain, database, rows
from .guard.integrity import check_pages
from .reader import StoreReader
from .records import ChangeRow
from .state import State

Work = Callable[[sqlite3.Connection, chain.Added], tuple[list[ChangeRow], int | None]]
"""Writes the rows of a change and notes them as added; returns the changes of the new revision and the calibration in
force after it."""


class StoreWriter(StoreReader):
    """What every change of :class:`.Store` goes through: locks, a transaction, and the state in memory after it."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._depth = 0  # of nested writing()
        self._writer, self._process = threading.RLock(), os.getpid()
        self._by = ""  # who signs the changes
        self._pages_checked = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads from changing this object for the length of a ``with`` block."""
        if self._process != os.getpid():  # after a fork the locks are the parent's, who may be writing
            self._depth, self._writer, self._process = 0, threading.RLock(), os.getpid()
        with self._writer:
            yield

    def refresh(self) -> bool:
        """Load what other processes committed since; return whether there was anything.

        Raises:
            StoreError: if the file at the path does not go on from what was loaded: open it again to answer with it.
        """
        with self.alone():
            file_id = database.file_id(self._file, self.path)
            with self._database() as db:
                if file_id == self._file_id and chain.newest(db, self.path) == (self.revision, self._state.head):
                    return False
                state, _ = State.load(db, self.path)
            changed = state.revision != self.revision
            self._state, self._file_id = (state if changed else self._state), file_id
        return changed

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out for the length of a ``with`` block.

        Every change does so itself; wrap several to keep others out in between.

        Raises:
            StoreError: if another process is writing, or the store changed since this object loaded it.
        """
        with self.alone(), ExitStack() as locks:
            if self._depth == 0:
                database.file_id(self._file, self.path)  # a missing store is an error here, before a lock file appears
                locks.enter_context(database.file_lock(self._file, self.path))
                with self._open() as db:
                    self._check_unchanged(db)
                    if not self._pages_checked:  # what SQLite takes for a free page must not be one in use
                        check_pages(db, self.path)
                        self._pages_checked = True
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextmanager
    def signed(self, by: str) -> Iterator[None]:
        """Write into the history who made the changes of a ``with`` block; it keeps other writers out, too.

        Args:
            by: a name; empty: none is written.
        """
        with self.writing():
            before, self._by = self._by, by
            try:
                yield
            finally:
                self._by = before

    def _commit(self, action: str, detail: Mapping[str, Any], work: Work) -> int:
        """Write a revision in one transaction; the state in memory is replaced only after the COMMIT."""
        detail = {**detail, "by": self._by} if self._by else detail
        revision, text = self.revision + 1, rows.to_json(detail, "detail")
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            self._check_unchanged(db)  # other programs ignore the lock, and training takes long
            db.set_progress_handler(None, 0)  # what is written is ours, however much it is
            added = chain.Added()
            changes, calibration = work(db, added)
            row = chain.LogRow(revision, rows.now(), action, text, calibration, changes, added.digest())
            head = rows.insert_revision(db, self._state.head, row)
            state = self._state.after(db, self.path, changes, calibration, head)
            try:
                db.execute("COMMIT")
                self._state = state
            except BaseException:  # Ctrl-C, say: what is in memory follows what is in the file
                if not db.in_transaction and chain.newest(db, self.path) == (revision, head):
                    self._state = state
                raise
        return revision

    def _check_unchanged(self, db: sqlite3.Connection) -> None:
        """Raise a StoreError if the file is not the one that was loaded, or not at the revision that was loaded."""
        if database.file_id(self._file, self.path) != self._file_id:
            raise StoreError(f"{self.path} was replaced since it was opened: open it again")
        chain.check_head(db, self.path, self.revision, self._state.head)
