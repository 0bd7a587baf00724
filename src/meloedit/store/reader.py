"""Reading a store: its live edits, their tensors, its history, and the check for damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from ..errors import StoreError
from . import chain, database, making, rows, schema, scope_cache
from .guard import integrity
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
        with database.open_database(self._file, self.path) as db:
            self._state, meta = State.load(db, self.path)
        self.made_for, self.config = meta["model"], meta["config"]
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
        calibration, (of, model) = self._state.calibration, self._model_of
        if of != calibration:
            model = self._made_on(calibration)
            self._model_of = (calibration, model)
        return model

    def fact(self, name: str) -> str:
        """Return the ``name`` of that model, or its ``fingerprint``; a StoreError if the store does not say it."""
        value = self.model.get(name)
        if not isinstance(value, str) or not value:
            raise schema.damaged(self.path, f"it does not say the {name} of its model")
        return value

    def close(self) -> None:
        """Close the store: every later operation on the file is an error."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        if self._closed:
            raise StoreError(f"{self.path} is closed: open it again")
        return database.open_database(self._file, self.path)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open the file to read what was loaded; an error if it has another store's revisions by now."""
        state = self._state  # another thread may commit meanwhile
        with self._open() as db:
            row = db.execute("SELECT sha256 FROM revisions WHERE revision = ?", (state.revision,)).fetchone()
            if row is None or row[0] != state.head:
                raise StoreError(f"{self.path} was overwritten since it was opened, by another store: open it again")
            yield db

    def _log(self, db: sqlite3.Connection, since: int = 0, state: State | None = None) -> list[chain.LogRow]:
        """Return the verified revisions after ``since``, up to that of a state; ``None``: the one that is loaded."""
        state = state or self._state
        return chain.read_log(db, self.path, state.revision, state.head, since)

    # -- live edits

    def edits(self, at: int | None = None) -> list[StoredEdit]:
        """Return the live edits, now or at revision ``at``, in the order of their records."""
        if at is None:
            return list(self._state.live.values())
        self._check_revision(at)
        with self._database() as db:
            live, _, fit = self._at(db, at)
            return list(rows.read_live(db, self.path, live, fit).values())

    def _at(self, db: sqlite3.Connection, revision: int) -> tuple[chain.Live, int | None, int | None]:
        """Return the edits that were live after a revision, the calibration in force, and the one with its keys."""
        log = self._log(db)[:revision]
        calibration = log[-1].calibration
        fit = None if calibration is None else rows.read_calibration_info(db, self.path, calibration)[1]
        return chain.live_after(log), calibration, fit

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

    # -- tensors

    def records(self, numbers: Sequence[int], calibration: int | None = None) -> dict[int, StoredRecord]:
        """Return records, live or not, by number.

        Args:
            numbers: which records.
            calibration: the calibration whose keys are returned; ``None``: the one in force.

        Raises:
            StoreError: naming the edit, if its block or keys do not match their checksum; or if a record is gone.
        """
        with self._database() as db:
            fit = rows.read_calibration_info(db, self.path, calibration)[1] if calibration else self._state.fit
            return rows.read_records(db, self.path, numbers, fit)

    def tensors(self, ids: Iterable[str] | None = None) -> dict[str, tuple[Tensors, Tensors]]:
        """Return block and keys (under the calibration in force) of live edits, by id; ``None``: of all of them.

        Raises:
            StoreError: naming the edit, if its block or keys do not match their checksum.
        """
        state = self._state
        wanted = list(state.live) if ids is None else state.choose(ids, self.path)
        numbers = {edit_id: state.live[edit_id].record for edit_id in wanted}
        records = self.records(list(numbers.values()))
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
            found = rows.read_blocks(db, self.path, records)
        blocks = {number: block for number, (_, block) in found.items()}
        return stack_tensors(blocks, self.path, lambda number: f"the block of edit {found[number][0].edit_id!r}")

    def key_stacks(self, records: Sequence[int]) -> list[Stack]:
        """Return the keys of records under the calibration in force, stacked as blocks are. Blocks are not read.

        Raises:
            StoreError: naming the edit, if its keys do not match their checksum; or if a record is gone.
        """
        with self._database() as db:
            blobs = rows.read_keys(db, self.path, records, self._state.fit)
        return stack_tensors(blobs, self.path, self._called())

    def _called(self) -> Callable[[int], str]:
        """Return what messages call the keys of a record."""
        live = self._state.live.values()
        return lambda number: f"the keys of edit {next((s.edit.id for s in live if s.record == number), number)!r}"

    # -- calibration

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
            return rows.read_calibration_info(db, self.path, number)[0]

    def scope_cache(self) -> tuple[Tensors, frozenset[int]] | None:
        """Return the tensors of the scope cache, and the records that were enabled when it was written.

        ``None`` if it is absent, damaged, or of another calibration.
        """
        state = self._state
        if state.calibration is None:
            return None
        with self._database() as db:
            if (cache := scope_cache.read(db, state.calibration, state.revision)) is None:
                return None
            revision, tensors = cache
            live = chain.live_after(self._log(db, state=state)[:revision])
        return tensors, frozenset(record for record, enabled, _ in live.values() if enabled)

    def model_at(self, revision: int) -> dict[str, Any]:
        """Return the model that the keys after a revision, or a rollback to it, were made on."""
        self._check_revision(revision)
        with self._database() as db:
            calibration = self._at(db, revision)[1]
        return self._made_on(calibration or self._state.calibration)

    def _made_on(self, calibration: int | None) -> dict[str, Any]:
        """Return the model that the keys under a calibration were made on."""
        if calibration is None:
            return dict(self.made_for)
        with self._database() as db:
            info, _ = rows.read_calibration_info(db, self.path, calibration)
        model = info.get(MODEL) or self.made_for
        if not isinstance(model, dict):
            raise schema.damaged(self.path, f"calibration {calibration} names no model")
        return dict(model)

    # -- history

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
        state, wanted = self._state, None if limit is None else max(0, limit)
        # all of it where the revisions of one edit are sought
        since = 0 if edit_id is not None or wanted is None else max(0, state.revision - wanted)
        with self._database() as db:
            log = self._log(db, since, state)
        own = log if edit_id is None else [row for row in log if any(one.edit_id == edit_id for one in row.changes)]
        if edit_id is not None and not own:
            known = {change.edit_id for row in log for change in row.changes}
            raise unknown_edit(self.path, edit_id, sorted(known))
        own = own if wanted is None else own[max(0, len(own) - wanted) :]
        return [rows.to_revision(self.path, row, edit_id) for row in own]

    def diff(self, old: int, new: int) -> tuple[list[str], list[str]]:
        """Compare the edits of two revisions; their calibrations are not compared.

        Returns:
            Ids of the edits removed or changed, and of those added or changed: a changed edit is in both lists. An edit
            changed if it has another record, or was enabled or disabled.
        """
        self._check_revision(old)
        self._check_revision(new)
        with self._database() as db:
            log = self._log(db)
        before, after = (
            {edit_id: value[:2] for edit_id, value in chain.live_after(log[:at]).items()} for at in (old, new)
        )
        leave = [edit_id for edit_id in before if after.get(edit_id) != before[edit_id]]
        return leave, [edit_id for edit_id in after if before.get(edit_id) != after[edit_id]]

    def _check_revision(self, revision: int) -> None:
        if type(revision) is not int or not 1 <= revision <= self.revision:
            raise StoreError(f"{self.path} has no revision {revision}: it has 1 to {self.revision}")

    # -- the whole file

    def verify(self) -> list[str]:
        """Check every page, reference, bound and checksum. Return one line per problem; none if all is well."""
        if self._closed:
            raise StoreError(f"{self.path} is closed: open it again")
        return integrity.verify(self.path)

    def copy(self, path: str | Path, replace: bool = False) -> None:
        """Copy the store with all its history to a new file, or in place of one: whole or not at all."""
        target = database.real_path(path)
        with self._database() as db:
            if not (replace and target == self._file):  # it is there already
                making.create(target, path, db.backup, replace)
