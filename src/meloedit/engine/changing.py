"""What an editor changes without training: which edits answer, and what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..config import is_whole
from ..errors import StoreError
from .amending import Amender

if TYPE_CHECKING:
    from ..store import Store
    from ..types import Prompt
    from .engine import Engine


class ChangeView:
    """Changes the store of an engine; every change is a revision, which is returned."""

    engine: Engine

    def _change(self, transaction: Callable[[Store], int]) -> int:
        return self.engine.change(lambda: transaction(self.engine.store))

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove edits; their prompts get the base model's answers again, bit for bit. Return the new revision."""
        return self._change(lambda store: store.remove(ids))

    def enable(self, ids: str | Sequence[str]) -> int:
        """Let disabled edits answer again. Return the new revision."""
        return self._change(lambda store: store.set_enabled(ids, True))

    def disable(self, ids: str | Sequence[str]) -> int:
        """Keep edits from answering without removing them. Return the new revision."""
        return self._change(lambda store: store.set_enabled(ids, False))

    def rollback(self, to: int) -> int:
        """Bring back the edits of revision ``to``; that is a new revision itself, which is returned."""
        if not is_whole(to):
            raise StoreError(f"a revision is a whole number, not {to!r}")
        return self._change(lambda store: store.rollback(to))

    def quiet(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Keep an edit from answering prompts, and what asks the same: a wrong hit put right. Nothing is trained.

        Args:
            edit_id: the edit.
            prompts: one prompt or many; those that it is quiet on already are left out.
            reason: why; it is kept in the history.

        Returns:
            The new revision, or the present one if there was nothing to do.

        Raises:
            EditError: if a prompt is the edit's own, or the model cannot tell it from that.
        """
        return Amender(self.engine).quiet(edit_id, prompts, reason)

    def allow(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Let an edit answer prompts, and what asks the same: a miss put right. Nothing is trained.

        The edit's block was not trained on these wordings: ask them to see that the answer is right.

        Args:
            edit_id: the edit.
            prompts: one prompt or many; those that are wordings of it already are left out.
            reason: why; it is kept in the history.

        Returns:
            The new revision, or the present one if there was nothing to do.

        Raises:
            EditError: if another edit asks or answers such a prompt, with another target.
        """
        return Amender(self.engine).allow(edit_id, prompts, reason)
