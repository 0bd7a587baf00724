"""Reading a store: its live edits, their tensors, its history, and the check for damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import database, integrity, rows, schema, scope_cache
from .records import MODEL, Revision, StoredEdit, StoredRecord
from .state import State, unknown_edit
from .tensors import Stack, Tensors, stack_tensors


class StoreReader:
    """The operations of :class:`.Store` that leave the file as it is; see there for attributes and errors."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = database.real_path(path)
        self._closed = False
        self._file_id = database.file_id(self._file, path)
        with self._database() as db:
            meta = rows.read_meta(db, self.path)
            self.made_for, self.config = meta["model"], meta["config"]
            self._state = State.load(db, self.path)
        self._model_of: tuple[int | None, dict[str, Any]] = (None, self.made_for)

    @property
    def revision(self) -> int:
        """The revision that is loaded."""
        return self._state.revision

    @property
    def calibration_id(self) -> int | None:
        """The number of the calibration in force; ``None`` before the first one."""
        return self._state.calibration

    @property
    def state_id(self) -> str:
        """The checksum of the revision that is loaded: another store at the same revision has another one."""
        return self._state.head.hex()[:16]

    @property
    def model(self) -> dict[str, Any]:
        """The model that the keys in force were made on: its name, fingerprint and so on."""
        if self._model_of[0] != self._state.calibration:
            self._model_of = (self._state.calibration, self.model_at(self._state.revision))
        return self._model_of[1]

    def close(self) -> None:
        """Close the store: every later operation on the file is an error."""
        self._closed = True

    def _database(self) -> AbstractContextManager[sqlite3.Connection]:
        if self._closed:
            raise StoreError(f"{self.path} is closed: open it again")
        return database.open_database(self._file, self.path)

    # --------------------------------------------------------------------------------------------------- live edits

    def edits(self, at: int | None = None) -> list[StoredEdit]:
        """Return the live edits, now or at revision ``at``, in the order of their records."""
        if at is None:
            return list(self._state.live.values())
        self._check_revision(at)
        with self._database() as db:
            calibration = rows.calibration_at(db, self.path, at)
            return list(rows.read_live(db, self.path, schema.STATE_AT, at, calibration).values())

    def find(self, edit_id: str) -> StoredEdit | None:
        """Return one live edit, or ``None``."""
        return self._state.live.get(edit_id)

    def get(self, edit_id: str) -> StoredEdit:
        """Return one live edit; the error for an unknown id names up to three similar ones."""
        state = self._state
        return state.live[state.choose([edit_id], self.path)[0]]

    def changed_since(self, revision: int) -> frozenset[str] | None:
        """Return ids of the edits changed after ``revision``; ``None`` if unknown, so that all must be compared."""
        state = self._state
        if state.revision == revision:
            return frozenset()
        return state.changed if state.revision == revision + 1 else None

    # ------------------------------------------------------------------------------------------------------ tensors

    def records(self, numbers: Sequence[int], calibration: int | None = None) -> dict[int, StoredRecord]:
        """Return records, live or not, by number.

        Args:
            numbers: which records.
            calibration: the calibration whose keys are returned; ``None``: the one in force.

        Raises:
            StoreError: naming the edit, if its block or keys do not match their checksum; or if a record is gone.
        """
        with self._database() as db:
            return rows.read_records(db, self.path, numbers, calibration or self._state.calibration)

    def tensors(self, ids: Iterable[str] | None = None) -> dict[str, tuple[Tensors, Tensors]]:
        """Return block and keys (under the calibration in force) of live edits, by id; ``None``: of all of them.

        Raises:
            StoreError: naming the edit, if its block or keys do not match their checksum.
        """
        state = self._state
        wanted = list(state.live) if ids is None else state.choose(ids, self.path)
        numbers = {edit_id: state.live[edit_id].record for edit_id in wanted}
        records = self.records(list(numbers.values()), state.calibration)
        return {edit_id: (records[number].block, records[number].keys) for edit_id, number in numbers.items()}

    def block_stacks(self, records: Sequence[int]) -> list[Stack]:
        """Return the blocks of records, live or not, stacked: one stack per layout, such as a rank.

        Args:
            records: numbers of the records.

        Returns:
            Per layout, n numbers and the tensors by name, each of shape (n, ...). Keys are not read.

        Raises:
            StoreError: naming the edit, if its record does not match its checksum; or if a record is gone.
        """
        with self._database() as db:
            rows_read = rows.read_blocks(db, self.path, records)
        return stack_tensors({number: block for number, (_, block) in rows_read.items()})

    def key_stacks(self, records: Sequence[int]) -> list[Stack]:
        """Return the keys of records under the calibration in force, stacked as blocks are. Blocks are not read.

        Raises:
            StoreError: naming the edit, if its keys do not match their checksum; or if a record is gone.
        """
        with self._database() as db:
            blobs = rows.read_keys(db, self.path, records, self._state.calibration)
        return stack_tensors(blobs)

    # -------------------------------------------------------------------------------------------------- calibration

    def calibration(self) -> tuple[int, Tensors, dict[str, Any]] | None:
        """Return number, tensors and info of the calibration in force; ``None`` before the first one."""
        number = self._state.calibration
        if number is None:
            return None
        with self._database() as db:
            return number, *rows.read_calibration(db, self.path, number)

    def calibration_info(self) -> dict[str, Any]:
        """Return the info of the calibration in force, without its tensors; empty before the first one."""
        if (number := self._state.calibration) is None:
            return {}
        with self._database() as db:
            return rows.read_calibration_info(db, self.path, number)

    def scope_cache(self) -> tuple[Tensors, frozenset[int]] | None:
        """Return the tensors of the scope cache, and the records that were enabled when it was written.

        ``None`` if it is absent, damaged, or of another calibration.
        """
        if self._state.calibration is None:
            return None
        with self._database() as db:
            if (cache := scope_cache.read(db, self._state.calibration)) is None:
                return None
            revision, tensors = cache
            return tensors, frozenset(record for record, enabled in rows.snapshot(db, revision).values() if enabled)

    def model_at(self, revision: int) -> dict[str, Any]:
        """Return the model that the keys after a revision, or a rollback to it, were made on."""
        self._check_revision(revision)
        with self._database() as db:
            number = rows.calibration_at(db, self.path, revision) or self._state.calibration
            info = {} if number is None else rows.read_calibration_info(db, self.path, number)
        return dict(info.get(MODEL) or self.made_for)

    # ------------------------------------------------------------------------------------------------------ history

    def history(self, edit_id: str | None = None, limit: int | None = None) -> list[Revision]:
        """Return revisions, newest last.

        Args:
            edit_id: if given, only the revisions that changed this edit, each with that one change.
            limit: if given, only so many of the newest ones.

        Raises:
            StoreError: if no edit ever had the id.
        """
        if not isinstance(edit_id, str | None):
            raise StoreError(f"{self.path}: give the id of one edit, which is a string, not {edit_id!r}")
        with self._database() as db:
            revisions = rows.read_history(db, self.path, self.revision, edit_id, limit)
            if edit_id is not None and not revisions:
                known = [changed for (changed,) in db.execute("SELECT DISTINCT edit_id FROM changes").fetchall()]
                if edit_id not in known:
                    raise unknown_edit(self.path, edit_id, known)
        return revisions

    def diff(self, old: int, new: int) -> tuple[list[str], list[str]]:
        """Compare the edits of two revisions; their calibrations are not compared.

        Returns:
            Ids of the edits removed or changed, and of those added or changed: a changed edit is in both lists. An edit
            changed if it has another record, or was enabled or disabled.
        """
        self._check_revision(old)
        self._check_revision(new)
        with self._database() as db:
            before, after = rows.snapshot(db, old), rows.snapshot(db, new)
        leave = [edit_id for edit_id in before if after.get(edit_id) != before[edit_id]]
        return leave, [edit_id for edit_id in after if before.get(edit_id) != after[edit_id]]

    def _check_revision(self, revision: int) -> None:
        if not 1 <= revision <= self.revision:
            raise StoreError(f"{self.path} has no revision {revision}: it has 1 to {self.revision}")

    # ------------------------------------------------------------------------------------------------ the whole file

    def verify(self) -> list[str]:
        """Check every page, reference and checksum of the file. Return one line per problem; none if all is well."""
        lines: list[str] = []
        try:
            with self._database() as db:
                lines.extend(integrity.problems(db))  # keeps those before an error
        except StoreError as error:
            lines.append(str(error))
        return lines

    def copy(self, path: str | Path, replace: bool = False) -> None:
        """Copy the store with all its history to a new file, or in place of one: whole or not at all."""
        target = database.real_path(path)
        with self._database() as db:
            if not (replace and target == self._file):  # it is there already
                database.create(target, path, db.backup, replace)
