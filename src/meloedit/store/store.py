"""The store object: opens or creates a store, and changes it one transaction at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..edit import Edit
from ..errors import StoreError
from . import database, rows, scope_cache
from .reader import StoreReader
from .records import GIVEN, MODEL, ChangeRow, Record
from .tensors import Tensors

Work = Callable[[sqlite3.Connection], tuple[list[ChangeRow], int | None]]
"""Writes the rows of a change; returns the changes of the new revision and the calibration in force after it."""


class Store(StoreReader):
    """An open store; use :meth:`create` or :meth:`open`.

    The live edits are in memory; the file is open only while an operation runs. Threads may share the object: their
    changes wait for each other. Another process, or another Store, that writes at the same time is refused.

    Attributes:
        path: the file, as the caller gave it.
        made_for: the model that the store was created for, as ``model`` is unless the store was moved to another copy.
        config: the settings that it was created with.

    Raises:
        StoreError: by every method: if the file is missing, damaged, locked, full, read-only or of another format, or
            if there is no such edit or revision.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._depth = 0  # of nested writing()
        self._writer = threading.RLock()
        self._by = ""  # who signs the changes

    @classmethod
    def create(cls, path: str | Path, model: Mapping[str, Any], config: Mapping[str, Any]) -> Store:
        """Create a new store at revision 1 and open it.

        Raises:
            StoreError: if ``path`` exists already or cannot be created.
        """
        meta = {"model": model, "config": config}
        database.create(database.real_path(path), path, lambda db: rows.insert_first(db, meta))
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open an existing store."""
        return cls(path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out for the length of a ``with`` block.

        Every change does so itself; wrap several to keep others out in between.

        Raises:
            StoreError: if another process is writing, or the store changed since this object loaded it.
        """
        with self._writer, ExitStack() as locks:
            if self._depth == 0:
                database.file_id(self._file, self.path)  # a missing store is an error here, before a lock file appears
                locks.enter_context(database.file_lock(self._file, self.path))
                with self._database() as db:
                    self._check_unchanged(db)
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

    def calibrate(
        self,
        tensors: Tensors,
        info: Mapping[str, Any],
        keys: Mapping[str, Tensors],
        model: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a new calibration in force and return the new revision.

        Args:
            tensors: the tensors of the calibration.
            info: facts about it; JSON values only.
            keys: the new keys of every live edit, by id.
            model: the model that it moves the store to; ``None``: the same as before.
        """
        with self.writing():
            live, model = self._state.live, dict(model or self.model)
            info = dict(info) | ({MODEL: model} if model != self.made_for else {})
            self._state.choose(keys, self.path)
            if missing := [edit_id for edit_id in live if edit_id not in keys]:
                raise StoreError(f"{self.path}: the new calibration has no keys of edit {missing[0]!r}: give all keys")

            def work(db: sqlite3.Connection) -> tuple[list[ChangeRow], int | None]:
                calibration = rows.insert_calibration(db, info, tensors)
                for edit_id, stored in live.items():
                    rows.insert_keys(db, stored.record, calibration, keys[edit_id])
                return [], calibration

            moved = {"model": model["name"]} if model != self.model else {}
            return self._commit("move" if moved else "calibrate", moved, work)

    def keep_scope_cache(self, tensors: Tensors) -> None:
        """Write the scope cache of the edits that are enabled now. This makes no revision."""
        with self.writing(), self._database() as db:
            if self._state.calibration is not None:
                scope_cache.write(db, self._state.calibration, self.revision, tensors)

    def put(self, records: Sequence[Record], action: str = "edit", removed: Sequence[str] = ()) -> int:
        """Store records as live edits and remove others, in one transaction.

        A record replaces the live one of the same id and stays disabled if that was; a new edit is enabled.

        Args:
            records: the records to store.
            action: the name of this change in the history.
            removed: ids of the edits to remove.

        Returns:
            The new revision, or the present one if there was nothing to do.

        Raises:
            StoreError: if there is no calibration yet, an id occurs twice, or a removed one is unknown.
        """
        with self.writing():
            live, calibration = self._state.live, self._state.calibration
            leaving = self._state.choose(removed, self.path)
            counts = Counter([record.edit.id for record in records] + leaving)
            if twice := [edit_id for edit_id, count in counts.items() if count > 1]:
                raise StoreError(f"{self.path}: edit {twice[0]!r} comes twice in one change; keep one of them")
            if not counts:
                return self.revision
            if records and calibration is None:
                raise StoreError(f"{self.path} has no calibration yet: calibrate before the first edit")

            def work(db: sqlite3.Connection) -> tuple[list[ChangeRow], int | None]:
                changes = [ChangeRow(edit_id, None, live[edit_id].enabled) for edit_id in leaving]
                holder = 0
                for number, record in enumerate(records, rows.next_id(db, "records")):
                    holder = number if record.block or not holder else holder
                    rows.insert_record(db, number, record, holder)
                    rows.insert_keys(db, number, calibration, record.keys)
                    old = live.get(record.edit.id)
                    changes.append(ChangeRow(record.edit.id, number, old is None or old.enabled))
                return changes, calibration

            return self._commit(action, {}, work)

    def amend(self, edit: Edit, keys: Tensors, action: str, detail: Mapping[str, Any]) -> int:
        """Change the wordings or quiet prompts of a live edit, whose block stays; return the new revision.

        Args:
            edit: the edit as it is from now on.
            keys: the tensors of its keys under the calibration in force.
            action: the name of this change in the history.
            detail: further facts about it; JSON values only.
        """
        with self.writing():
            old, calibration = self.get(edit.id), self._state.calibration
            report = {**old.report, GIVEN: old.given.to_dict()}

            def work(db: sqlite3.Connection) -> tuple[list[ChangeRow], int | None]:
                number = rows.next_id(db, "records")
                rows.insert_record(db, number, Record(edit, old.rank, old.reach, report, {}, keys), old.holder)
                rows.insert_keys(db, number, calibration, keys)
                return [ChangeRow(edit.id, number, old.enabled)], calibration

            return self._commit(action, detail, work)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove edits and return the new revision; their records stay in the history."""
        return self.put([], "remove", ids)

    def set_enabled(self, ids: Sequence[str], enabled: bool) -> int:
        """Enable or disable edits. Return the new revision, or the present one if they all were so already."""
        with self.writing():
            live, calibration = self._state.live, self._state.calibration
            wanted = self._state.choose(ids, self.path)
            changes = [ChangeRow(i, live[i].record, enabled) for i in wanted if live[i].enabled != enabled]
            if not changes:
                return self.revision
            return self._commit("enable" if enabled else "disable", {}, lambda db: (changes, calibration))

    def rollback(self, to: int) -> int:
        """Bring back the edits and the calibration of revision ``to``, and return the new revision.

        If revision ``to`` had no calibration yet, the present one stays in force: without any, nothing can be stored.
        """
        with self.writing():
            self._check_revision(to)
            now = {edit_id: (stored.record, stored.enabled) for edit_id, stored in self._state.live.items()}

            def work(db: sqlite3.Connection) -> tuple[list[ChangeRow], int | None]:
                then = rows.snapshot(db, to)
                changes = [ChangeRow(i, *then[i]) for i in then if now.get(i) != then[i]]
                changes += [ChangeRow(i, None, now[i][1]) for i in now if i not in then]
                return changes, rows.calibration_at(db, self.path, to) or self._state.calibration

            return self._commit("rollback", {"to": to}, work)

    def _commit(self, action: str, detail: Mapping[str, Any], work: Work) -> int:
        """Write a revision in one transaction; the state in memory is replaced only after the COMMIT."""
        revision = self.revision + 1
        detail = {**detail, "by": self._by} if self._by else detail
        with self._database() as db:
            db.execute("BEGIN IMMEDIATE")
            self._check_unchanged(db)  # other programs ignore the lock, and training takes long
            changes, calibration = work(db)
            rows.insert_revision(db, revision, action, detail, calibration, changes)
            state = self._state.after(db, self.path, changes, calibration)
            db.execute("COMMIT")
        self._state = state
        return revision

    def _check_unchanged(self, db: sqlite3.Connection) -> None:
        """Raise a StoreError if the file is not the one that was loaded, or not at the revision that was loaded."""
        if database.file_id(self._file, self.path) != self._file_id:
            raise StoreError(f"{self.path} was replaced since it was opened: open it again")
        newest, _, head = rows.newest_revision(db, self.path)
        if newest != self.revision:
            change = f"revision {self.revision}, now {newest}"
            raise StoreError(f"{self.path} changed since it was opened ({change}): open it again")
        if head != self._state.head:
            raise StoreError(f"{self.path} was overwritten since it was opened: open it again")
