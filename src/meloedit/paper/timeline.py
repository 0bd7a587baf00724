"""Timeline: every change of the cluster index in order, read from the store's history, so that it can be replayed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store import Revision


@dataclass(frozen=True, eq=False)
class Step:
    """The change of the index by one revision. A rollback continues from an earlier step, so steps form a tree.

    Attributes:
        before: the step before; ``None`` for the start.
        removed: the records that leave the index, first.
        added: the records that enter it, afterwards and in this order.
    """

    before: Step | None
    removed: tuple[int, ...]
    added: tuple[int, ...]

    def since(self, earlier: Step | None) -> list[Step] | None:
        """Return the steps after ``earlier`` up to this one, oldest first; ``None`` if it is on another branch."""
        path: list[Step] = []
        step: Step | None = self
        while step is not None and step is not earlier:
            path.append(step)
            step = step.before
        return path[::-1] if step is earlier else None


@dataclass
class Timeline:
    """The steps of a store's history.

    The clusters depend on the order of all changes, so an index is built by replaying the steps that lead to it.

    Attributes:
        last: the step in force after each revision, by its number.
    """

    last: dict[int, Step] = field(default_factory=dict)
    _now: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def follow(self, revisions: Iterable[Revision]) -> Step:
        """Add revisions, in their order; return the step in force after them."""
        step = self.last[max(self.last)] if self.last else Step(None, (), ())
        for revision in revisions:
            next_step = self._step(revision, step)
            step = self.last[int(revision.detail["to"])] if revision.action == "rollback" else next_step
            self.last[revision.revision] = step
        return step

    def _step(self, revision: Revision, before: Step) -> Step:
        removed, added = [], []
        for change in revision.changes:
            old, was_on = self._now.get(change.edit_id, (None, False))
            stays = old == change.record and was_on and change.enabled
            if old is not None and was_on and not stays:
                removed.append(old)
            if change.record is not None and change.enabled and not stays:
                added.append(change.record)
            if change.record is None:
                self._now.pop(change.edit_id, None)
            else:
                self._now[change.edit_id] = (change.record, change.enabled)
        # A batch's records are numbered in its order, which sorting restores.
        return Step(before, tuple(sorted(removed)), tuple(sorted(added))) if removed or added else before
