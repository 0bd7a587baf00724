"""The store: one SQLite file that holds edits, their blocks and keys, and the history of every change.

Nothing in a store is ever overwritten, but for what can be derived (``lists``). A *record* is one version of an edit
with its trained block; a *revision* is one transaction, and its *changes* say which record of an edit is live from then
on, or that the edit is removed. So the state at any revision can be read, and a rollback is one more revision.
Importing this module does not import torch.
"""

from __future__ import annotations

import difflib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import StoreError
from . import database, integrity, rows, schema
from . import scope_cache as lists
from .records import ChangeRow, Record, Revision, StoredEdit
from .rows import State
from .tensors import Stack

__all__ = ["ChangeRow", "Record", "Revision", "Store", "StoredEdit"]

Work = Callable[[sqlite3.Connection], tuple[list[ChangeRow], int | None]]  # writes; changes and calibration


class Store:
    """An open store; use :meth:`create` or :meth:`open`.

    It holds the live edits in memory, and the file only while an operation runs. Threads may share it: their changes
    wait for each other. Another process, or another Store, that writes at the same time is refused.

    Attributes:
        path: the file, as it was given.
        model: what the store was made for: name, fingerprint and so on.
        config: the settings that it was made with.

    Raises:
        StoreError: by every method: if the file is missing, damaged, locked, full, read-only or of another format, or
            if there is no such edit or revision.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = database.real(path)
        self._closed = False
        self._depth = 0
        self._writer = threading.RLock()
        self._identity = database.identity(self._file, path)
        with self._database() as db:
            meta = rows.read_meta(db, self.path)
            self.model, self.config = meta["model"], meta["config"]
            self._state = State.load(db, self.path)

    @classmethod
    def create(cls, path: str | Path, model: Mapping[str, Any], config: Mapping[str, Any]) -> Store:
        """Make a new store, revision 1, and open it.

        Raises:
            StoreError: if ``path`` exists already or cannot be made.
        """
        meta = {"model": model, "config": config}
        database.create(database.real(path), path, lambda db: rows.insert_first(db, meta))
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open an existing store."""
        return cls(path)

    @property
    def revision(self) -> int:
        """The revision that is loaded."""
        return self._state.revision

    @property
    def calibration_id(self) -> int | None:
        """The number of the calibration in force."""
        return self._state.calibration

    def close(self) -> None:
        """Let go of the store: every later operation is an error."""
        self._closed = True

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers away for the length of a ``with`` block; may be nested, and every change does it itself.

        Raises:
            StoreError: if another process is writing, or the store changed since this object loaded it.
        """
        with self._writer, ExitStack() as held:
            if self._depth == 0:
                database.identity(self._file, self.path)  # or the lock would make a file where no store is
                held.enter_context(database.file_lock(self._file, self.path))
                with self._database() as db:
                    self._check_unchanged(db)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def calibrate(self, tensors: rows.Tensors, info: Mapping[str, Any], keys: Mapping[str, rows.Tensors]) -> int:
        """Put a new calibration in force, with new keys of every live edit (by id), and return the new revision."""
        with self.writing():
            live = self._choose(keys)[0].live
            if missing := [edit_id for edit_id in live if edit_id not in keys]:
                raise StoreError(f"{self.path}: the new calibration has no keys of edit {missing[0]!r}: give all keys")

            def work(db: sqlite3.Connection) -> tuple[list[ChangeRow], int | None]:
                calibration = rows.insert_calibration(db, info, tensors)
                for edit_id, stored in live.items():
                    rows.insert_keys(db, stored.record, calibration, keys[edit_id])
                return [], calibration

            return self._commit("calibrate", {}, work)

    def calibration(self) -> tuple[int, rows.Tensors, dict[str, Any]] | None:
        """Return number, tensors and info of the calibration in force, or None before the first one."""
        number = self._state.calibration
        if number is None:
            return None
        with self._database() as db:
            return number, *rows.read_calibration(db, self.path, number)

    def calibration_info(self) -> dict[str, Any]:
        """Return where the calibration in force is from, and what it states for itself; empty before the first one."""
        if (number := self._state.calibration) is None:
            return {}
        with self._database() as db:
            return rows.read_calibration_info(db, self.path, number)

    def keep_lists(self, tensors: rows.Tensors) -> None:
        """Keep what the scope knows of its calibration prompts, as of the edits that are live now."""
        with self.writing(), self._database() as db:
            if self._state.calibration is not None:
                lists.write(db, self._state.calibration, self.revision, tensors)

    def lists(self) -> tuple[rows.Tensors, frozenset[int]] | None:
        """Return what was kept by ``keep_lists``, and the records that were enabled then; ``None`` if it is no use."""
        if self._state.calibration is None:
            return None
        with self._database() as db:
            if (found := lists.read(db, self._state.calibration)) is None:
                return None
            return found[1], frozenset(record for record, enabled in rows.snapshot(db, found[0]).values() if enabled)

    def put(
        self, records: Sequence[Record], action: str = "edit", removed: Sequence[str] = (), detail: dict | None = None
    ) -> int:
        """Make ``records`` live and take ``removed`` away, in one transaction.

        A record replaces the live one of the same id and stays disabled if that was; a new edit is enabled. Returns the
        new revision, or the present one if there was nothing to do.

        Raises:
            StoreError: if there is no calibration yet, an id comes twice, or a removed one is unknown.
        """
        with self.writing():
            state, leaving = self._choose(removed)
            live, calibration = state.live, state.calibration
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

            return self._commit(action, detail or {}, work)

    def remove(self, ids: Sequence[str]) -> int:
        """Take edits away and return the new revision; their records stay in the history."""
        return self.put([], "remove", ids)

    def set_enabled(self, ids: Sequence[str], enabled: bool) -> int:
        """Let edits answer, or be silent; return the new revision, or the present one if they did so already."""
        with self.writing():
            state, wanted = self._choose(ids)
            changes = [ChangeRow(i, state.live[i].record, enabled) for i in wanted if state.live[i].enabled != enabled]
            if not changes:
                return self.revision
            return self._commit("enable" if enabled else "disable", {}, lambda db: (changes, state.calibration))

    def rollback(self, to: int) -> int:
        """Bring back the edits and the calibration of revision ``to``, and return the new revision that does so.

        Where revision ``to`` had no calibration yet, the present one stays in force: it would be of no use without.
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

    def changed_since(self, revision: int) -> frozenset[str] | None:
        """Return the ids that changed after ``revision``; ``None`` where it takes a look at all edits to know."""
        state = self._state
        if state.revision == revision:
            return frozenset()
        return state.changed if state.revision == revision + 1 else None

    def get(self, edit_id: str) -> StoredEdit:
        """Return one live edit; the error for an unknown id names up to three like it."""
        return self._choose([edit_id])[0].live[edit_id]

    def tensors(self, ids: Iterable[str] | None = None) -> dict[str, tuple[rows.Tensors, rows.Tensors]]:
        """Return block and keys (under the calibration in force) of all live edits, or of some.

        Raises:
            StoreError: naming the edit, if one does not match its checksum.
        """
        state = self._state
        if ids is None:
            wanted = list(state.live)
        else:
            state, wanted = self._choose(ids)
        records = {edit_id: state.live[edit_id].record for edit_id in wanted}
        found = self.records(list(records.values()), state.calibration)
        return {edit_id: (found[number].block, found[number].keys) for edit_id, number in records.items()}

    def stacks(self, ids: Iterable[str]) -> tuple[list[Stack], list[Stack]]:
        """Return the blocks and the keys of some live edits by record, those of one layout as rows of one tensor.

        Raises:
            StoreError: naming the edit, if one does not match its checksum.
        """
        state, wanted = self._choose(ids)
        numbers = [state.live[edit_id].record for edit_id in wanted]
        with self._database() as db:
            found = rows.read_stacks(db, self.path, numbers, state.calibration)
        here = {number for stack, _ in found[0] for number in stack}
        if lost := [number for number in numbers if number not in here]:
            raise schema.damaged(self.path, f"record {lost[0]} is gone")
        return found

    def block_stacks(self, numbers: Sequence[int]) -> list[Stack]:
        """Return blocks."""
        with self._database() as db:
            return rows.read_stacks(db, self.path, numbers, self._state.calibration)[0]

    def key_stacks(self, numbers: Sequence[int]) -> list[Stack]:
        """Return keys."""
        with self._database() as db:
            return rows.read_stacks(db, self.path, numbers, self._state.calibration)[1]

    keep_scope_cache = lambda self, t: self.keep_lists(t)
    scope_cache = lambda self: self.lists()

    def records(self, numbers: Sequence[int], calibration: int | None = None) -> dict[int, rows.StoredRecord]:
        """Return some records, live or not, with their keys under a calibration (``None``: the one in force).

        Raises:
            StoreError: naming the edit, if one does not match its checksum, or is gone.
        """
        with self._database() as db:
            found = rows.read_records(db, self.path, numbers, calibration or self._state.calibration)
        if lost := [number for number in numbers if number not in found]:
            raise schema.damaged(self.path, f"record {lost[0]} is gone")
        return {number: found[number] for number in numbers}

    def history(self, edit_id: str | None = None, limit: int | None = None) -> list[Revision]:
        """Return the revisions, newest last: all or the last ones, or those of one edit with its change only."""
        with self._database() as db:
            found = rows.read_history(db, self.path, self.revision, edit_id, limit)
            if edit_id is not None and not found:
                known = [changed for (changed,) in db.execute("SELECT DISTINCT edit_id FROM changes").fetchall()]
                if edit_id not in known:
                    raise self._unknown(edit_id, known)
        return found

    def diff(self, old: int, new: int) -> tuple[list[str], list[str]]:
        """Compare two revisions: ids removed or changed, ids added or changed, so a changed edit is in both lists.

        An edit changed if its record or its being enabled did. Calibrations are not compared.
        """
        self._check_revision(old)
        self._check_revision(new)
        with self._database() as db:
            before, after = rows.snapshot(db, old), rows.snapshot(db, new)
        leave = [edit_id for edit_id in before if after.get(edit_id) != before[edit_id]]
        return leave, [edit_id for edit_id in after if before.get(edit_id) != after[edit_id]]

    def verify(self) -> list[str]:
        """Check every page, reference and checksum of the file, and return the problems found: none, if all is well."""
        found: list[str] = []
        try:
            with self._database() as db:
                found.extend(integrity.problems(db))  # keeps those before an error
        except StoreError as error:
            found.append(str(error))
        return found

    def copy(self, path: str | Path) -> None:
        """Copy the store with all its history to a new file, whole or not at all."""
        with self._database() as db:
            database.create(database.real(path), path, db.backup)

    def _commit(self, action: str, detail: Mapping[str, Any], work: Work) -> int:
        """Write a revision in one transaction; memory follows only after the COMMIT."""
        revision = self.revision + 1
        with self._database() as db:
            db.execute("BEGIN IMMEDIATE")
            self._check_unchanged(db)  # other programs do not heed the lock, and training takes long
            changes, calibration = work(db)
            rows.insert_revision(db, revision, action, detail, calibration, changes)
            state = self._state.after(db, self.path, changes, calibration)
            db.execute("COMMIT")
        self._state = state
        return revision

    def _check_unchanged(self, db: sqlite3.Connection) -> None:
        if database.identity(self._file, self.path) != self._identity:
            raise StoreError(f"{self.path} was replaced since it was opened: open it again")
        newest, _, head = rows.newest_revision(db, self.path)
        if newest != self.revision:
            change = f"revision {self.revision}, now {newest}"
            raise StoreError(f"{self.path} changed since it was opened ({change}): open it again")
        if head != self._state.head:
            raise StoreError(f"{self.path} was overwritten since it was opened: open it again")

    def _database(self) -> AbstractContextManager[sqlite3.Connection]:
        if self._closed:
            raise StoreError(f"{self.path} is closed: open it again")
        return database.database(self._file, self.path)

    def _choose(self, ids: Iterable[str]) -> tuple[State, list[str]]:
        """Return the present state, and the ids once each, all of them live in it."""
        state = self._state  # read once: another thread may be about to replace it
        given = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, Iterable) else [ids]
        if wrong := [edit_id for edit_id in given if not isinstance(edit_id, str)]:
            raise StoreError(f"{self.path}: give ids of edits, which are strings, not {wrong[0]!r}")
        wanted = list(dict.fromkeys(given))
        if unknown := [edit_id for edit_id in wanted if edit_id not in state.live]:
            raise self._unknown(unknown[0], list(state.live))
        return state, wanted

    def _check_revision(self, revision: int) -> None:
        if not 1 <= revision <= self.revision:
            raise StoreError(f"{self.path} has no revision {revision}: it has 1 to {self.revision}")

    def _unknown(self, edit_id: str, known: list[str]) -> StoreError:
        close = difflib.get_close_matches(edit_id, known, 3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see them with: meloedit ls"
        return StoreError(f"{self.path} has no edit {edit_id!r}; {hint}")
