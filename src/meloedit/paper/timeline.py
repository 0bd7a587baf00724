"""The order of all that happened to the clusters, from the history of a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store import Revision


@dataclass(frozen=True, eq=False)
class Step:
    """What one revision did to the index: first the records in ``removed`` left it, then those in ``added`` entered it.

    ``before`` is the step it came after: a rollback goes on from an earlier one, so that steps form a tree.
    """

    before: Step | None
    removed: tuple[int, ...]
    added: tuple[int, ...]

    def since(self, earlier: Step | None) -> list[Step] | None:
        """Return the steps after an earlier one up to this, oldest first; ``None`` if that is not on the way here."""
        way: list[Step] = []
        step: Step | None = self
        while step is not None and step is not earlier:
            way.append(step)
            step = step.before
        return way[::-1] if step is earlier else None


@dataclass
class Timeline:
    """The last step before each revision.

    What an index holds depends on the order of all that happened to it, so it is made anew by going the same way.
    """

    last: dict[int, Step] = field(default_factory=dict)
    _now: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def follow(self, revisions: Iterable[Revision]) -> Step:
        """Take in revisions, in their order; return the last step."""
        step = self.last[max(self.last)] if self.last else Step(None, (), ())
        for revision in revisions:
            own = self._step(revision, step)
            step = self.last[int(revision.detail["to"])] if revision.action == "rollback" else own
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
        # records are numbered in the order of a batch
        return Step(before, tuple(sorted(removed)), tuple(sorted(added))) if removed or added else before
