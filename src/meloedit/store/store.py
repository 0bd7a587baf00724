"""The store object: opens or creates a store, and changes it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..edit import Edit
from ..errors import StoreError
from . import chain, database, making, rows, scope_cache
from .records import GIVEN, MODEL, ChangeRow, Record
from .tensors import Tensors, pack
from .writer import StoreWriter


class Store(StoreWriter):
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

    @classmethod
    def create(cls, path: str | Path, model: Mapping[str, Any], config: Mapping[str, Any]) -> Store:
        """Create a new store at revision 1 and open it.

        Raises:
            StoreError: if ``path`` exists already or cannot be created.
        """
        meta = {"model": model, "config": config}
        making.create(database.real_path(path), path, lambda db: rows.insert_first(db, meta))
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open an existing store."""
        return cls(path)

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
            live, model, revision = self._state.live, dict(model or self.model), self.revision + 1
            info = dict(info) | ({MODEL: model} if model != self.made_for else {})
            self._state.choose(keys, self.path)
            if missing := [edit_id for edit_id in live if edit_id not in keys]:
                raise StoreError(f"{self.path}: the new calibration has no keys of edit {missing[0]!r}: give all keys")
            text = rows.to_json(info, "info")

            def work(db: sqlite3.Connection, added: chain.Added) -> tuple[list[ChangeRow], int | None]:
                calibration = rows.insert_calibration(db, added, revision, text, pack(tensors))
                for edit_id, stored in live.items():
                    rows.insert_keys(db, added, revision, stored.record, calibration, pack(keys[edit_id]))
                return [], calibration

            moved = {"model": model["name"]} if model != self.model else {}
            return self._commit("move" if moved else "calibrate", moved, work)

    def rescope(self, info: Mapping[str, Any]) -> int:
        """Put a calibration in force that differs from the present one in its ``info`` alone; return the revision.

        Its tensors and the keys of the edits stay where they are, so the new row is a short one.

        Raises:
            StoreError: if there is no calibration yet.
        """
        with self.writing():
            info = dict(info) | ({MODEL: self.model} if self.model != self.made_for else {})
            fit, revision, text = self._state.fit, self.revision + 1, rows.to_json(info, "info")
            if fit is None:
                raise StoreError(f"{self.path} has no calibration yet, so it has no scope to change: calibrate first")

            def work(db: sqlite3.Connection, added: chain.Added) -> tuple[list[ChangeRow], int | None]:
                return [], rows.insert_calibration(db, added, revision, text, b"", fit)

            return self._commit("calibrate", {}, work)

    def keep_scope_cache(self, tensors: Tensors) -> None:
        """Write the scope cache of the edits that are enabled now. This makes no revision."""
        with self.writing(), self._database() as db:
            state = self._state
            if state.calibration is not None:
                scope_cache.write(db, state.calibration, state.revision, state.head, tensors)

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
            state, revision = self._state, self.revision + 1
            live, calibration, fit = state.live, state.calibration, state.fit
            leaving = self._state.choose(removed, self.path)
            counts = Counter([record.edit.id for record in records] + leaving)
            if twice := [edit_id for edit_id, count in counts.items() if count > 1]:
                raise StoreError(f"{self.path}: edit {twice[0]!r} comes twice in one change; keep one of them")
            if not counts:
                return self.revision
            if records and fit is None:
                raise StoreError(f"{self.path} has no calibration yet: calibrate before the first edit")

            def work(db: sqlite3.Connection, added: chain.Added) -> tuple[list[ChangeRow], int | None]:
                changes = [ChangeRow(edit_id, None, live[edit_id].enabled) for edit_id in leaving]
                holder = 0
                for number, record in enumerate(records, rows.next_id(db, "records")):
                    holder = number if record.block or not holder else holder
                    rows.insert_record(db, added, revision, number, record, holder)
                    rows.insert_keys(db, added, revision, number, fit or 0, pack(record.keys))
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
            old, revision = self.get(edit.id), self.revision + 1
            calibration, fit = self._state.calibration, self._state.fit
            assert fit is not None  # there is an edit
            report = {**old.report, GIVEN: old.given.to_dict()}
            record = Record(edit, old.rank, old.reach, report, {}, keys)

            def work(db: sqlite3.Connection, added: chain.Added) -> tuple[list[ChangeRow], int | None]:
                number = rows.next_id(db, "records")
                rows.insert_record(db, added, revision, number, record, old.holder)
                rows.insert_keys(db, added, revision, number, fit, pack(keys))
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
            return self._commit("enable" if enabled else "disable", {}, lambda *_: (changes, calibration))

    def rollback(self, to: int) -> int:
        """Bring back the edits and the calibration of revision ``to``, and return the new revision.

        If revision ``to`` had no calibration yet, the present one stays in force: without any, nothing can be stored.
        """
        with self.writing():
            self._check_revision(to)
            now = {edit_id: (stored.record, stored.enabled) for edit_id, stored in self._state.live.items()}

            def work(db: sqlite3.Connection, _: chain.Added) -> tuple[list[ChangeRow], int | None]:
                live, calibration, _fit = self._at(db, to)
                then = {edit_id: value[:2] for edit_id, value in live.items()}
                changes = [ChangeRow(i, *then[i]) for i in then if now.get(i) != then[i]]
                changes += [ChangeRow(i, None, now[i][1]) for i in now if i not in then]
                return changes, calibration or self._state.calibration

            return self._commit("rollback", {"to": to}, work)
