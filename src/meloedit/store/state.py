"""The live edits of one revision, in memory: an immutable value that every commit replaces."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..callers.arguments import shown
from ..errors import StoreError, UnknownEditError
from . import chain, rows
from .guard.values import read_object
from .records import ChangeRow, StoredEdit
from .schema import damaged


@dataclass(frozen=True)
class State:
    """What a store object has loaded. It never changes, so any thread may read it while another one writes.

    Attributes:
        revision: the revision that is loaded.
        calibration: the calibration in force; ``None`` before the first one.
        fit: the calibration whose tensors and keys it uses: itself, or the earlier one that it changed the scope of.
        live: the live edits by id, in the order of records.
        head: the checksum of the revision: the newest link of the chain, which stands for all that is in the file.
        changed: ids of the edits that the revision changed; ``None`` if unknown.
    """

    revision: int
    calibration: int | None
    fit: int | None
    live: dict[str, StoredEdit]
    head: bytes
    changed: frozenset[str] | None = None

    @classmethod
    def load(cls, db: sqlite3.Connection, name: str | Path) -> tuple[State, dict[str, dict[str, Any]]]:
        """Read the newest state, and the settings, verifying the chain of checksums over everything but tensors.

        Raises:
            StoreError: saying what is damaged.
        """
        own = not db.in_transaction
        if own:
            db.execute("BEGIN")  # so that every query sees the same revision
        try:
            revision, head = chain.newest(db, name)
            log = chain.read_log(db, name, revision, head)
            beyond = db.execute("SELECT 1 FROM revisions WHERE revision > ?", (revision,)).fetchone()
            if beyond or db.execute("SELECT 1 FROM changes WHERE revision > ?", (revision,)).fetchone():
                raise damaged(name, "it has revisions after its newest one")
            live, calibration = chain.live_after(log), log[-1].calibration
            found = chain.check_rows(db, name, log, {record for record, _, _ in live.values()})
        finally:
            if own:
                db.execute("ROLLBACK")
        meta = {key: read_object(name, f"its {key}", found.meta.get(key)) for key in ("model", "config")}
        fit = None if calibration is None else found.fits.get(calibration)
        if calibration is not None and (fit is None or fit > calibration or found.fits.get(fit) != fit):
            raise damaged(name, f"calibration {calibration} has no tensors")
        sizes = {record: size for (record, of), size in found.keys.items() if of == fit}
        edits = rows.assemble(name, live, found.records, sizes, fit)
        return cls(revision, calibration, fit, edits, head), meta

    def after(
        self,
        db: sqlite3.Connection,
        name: str | Path,
        changes: Sequence[ChangeRow],
        calibration: int | None,
        head: bytes,
    ) -> State:
        """Return the state after the next revision, whose rows are written already; reads only the changed edits."""
        if calibration != self.calibration:  # the keys of every edit may differ, and with them its size
            return self.load(db, name)[0]
        changed = frozenset(change.edit_id for change in changes)
        revision = self.revision + 1
        now = {c.edit_id: (c.record, c.enabled, revision) for c in changes if c.record is not None}
        new = rows.read_live(db, name, dict(sorted(now.items(), key=lambda item: item[1][0])), self.fit)
        live = dict(self.live)  # 0.1 ms for ten thousand edits; a comprehension takes ten times as long
        newest = next(reversed(live.values())).record if live else 0
        for edit_id in changed.intersection(live):
            if edit_id not in new or new[edit_id].record != live[edit_id].record:
                del live[edit_id]
        in_order = all(edit_id in live or stored.record > newest for edit_id, stored in new.items())
        live |= new
        if not in_order:  # a rollback brings old records back
            live = dict(sorted(live.items(), key=lambda item: item[1].record))
        return State(revision, calibration, self.fit, live, head, changed)

    def choose(self, ids: Iterable[str], name: str | Path) -> list[str]:
        """Return ids without repetition, all of live edits; a string is one id.

        Raises:
            StoreError: if an id is not a string, or no edit has it.
        """
        given = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, Iterable) else [ids]
        if wrong := [edit_id for edit_id in given if not isinstance(edit_id, str)]:
            raise StoreError(f"{name}: give ids of edits, which are strings, not {shown(wrong[0])}")
        wanted = list(dict.fromkeys(given))
        if unknown := [edit_id for edit_id in wanted if edit_id not in self.live]:
            raise unknown_edit(name, unknown[0], list(self.live))
        return wanted


def unknown_edit(name: str | Path, edit_id: str, known: list[str]) -> UnknownEditError:
    """Return the error for an id that no edit has; it names up to three similar ones."""
    close = difflib.get_close_matches(edit_id, known, 3)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see them with: meloedit ls"
    return UnknownEditError(f"{name} has no edit {edit_id!r}; {hint}")
