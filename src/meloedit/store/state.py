"""The live edits of one revision, in memory: an immutable value that every commit replaces."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError, UnknownEditError
from . import rows
from .records import ChangeRow, StoredEdit
from .schema import CHANGED_AT, STATE_AT


@dataclass(frozen=True)
class State:
    """What a store object has loaded. It never changes, so any thread may read it while another one writes.

    Attributes:
        revision: the revision that is loaded.
        calibration: the calibration in force; ``None`` before the first one.
        live: the live edits by id, in the order of records.
        head: the checksum of the revision. It covers the time, so another store at the same revision has another one.
        changed: ids of the edits that the revision changed; ``None`` if unknown.
    """

    revision: int
    calibration: int | None
    live: dict[str, StoredEdit]
    head: bytes
    changed: frozenset[str] | None = None

    @classmethod
    def load(cls, db: sqlite3.Connection, name: str | Path) -> State:
        """Read the newest state."""
        revision, calibration, head = rows.newest_revision(db, name)
        return cls(revision, calibration, rows.read_live(db, name, STATE_AT, revision, calibration), head)

    def after(
        self, db: sqlite3.Connection, name: str | Path, changes: Sequence[ChangeRow], calibration: int | None
    ) -> State:
        """Return the state after the next revision, whose rows are written already; reads only the changed edits."""
        if calibration != self.calibration:  # the keys of every edit differ, and with them its size
            return self.load(db, name)
        changed = frozenset(change.edit_id for change in changes)
        new = rows.read_live(db, name, CHANGED_AT, self.revision + 1, calibration)
        live = dict(self.live)  # 0.1 ms for ten thousand edits; a comprehension takes ten times as long
        newest = next(reversed(live.values())).record if live else 0
        for edit_id in changed.intersection(live):
            if edit_id not in new or new[edit_id].record != live[edit_id].record:
                del live[edit_id]
        in_order = all(edit_id in live or stored.record > newest for edit_id, stored in new.items())
        live |= new
        if not in_order:  # a rollback brings old records back
            live = dict(sorted(live.items(), key=lambda item: item[1].record))
        return State(self.revision + 1, calibration, live, rows.newest_revision(db, name)[2], changed)

    def choose(self, ids: Iterable[str], name: str | Path) -> list[str]:
        """Return ids without repetition, all of live edits; a string is one id.

        Raises:
            StoreError: if an id is not a string, or no edit has it.
        """
        given = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, Iterable) else [ids]
        if wrong := [edit_id for edit_id in given if not isinstance(edit_id, str)]:
            raise StoreError(f"{name}: give ids of edits, which are strings, not {wrong[0]!r}")
        wanted = list(dict.fromkeys(given))
        if unknown := [edit_id for edit_id in wanted if edit_id not in self.live]:
            raise unknown_edit(name, unknown[0], list(self.live))
        return wanted


def unknown_edit(name: str | Path, edit_id: str, known: list[str]) -> UnknownEditError:
    """Return the error for an id that no edit has; it names up to three similar ones."""
    close = difflib.get_close_matches(edit_id, known, 3)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see them with: meloedit ls"
    return UnknownEditError(f"{name} has no edit {edit_id!r}; {hint}")
