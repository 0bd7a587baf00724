"""Prevailing: what a new edit means for the stored ones. The latest prevails, in any words (the paper's Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..edit import Edit, prompt_key, quoted
from ..errors import EditError

if TYPE_CHECKING:
    from ..store import StoredEdit
    from ..trying.same_question import Asking
    from .engine import Engine


class Prevailing:
    """Decides which stored edits new ones replace.

    Args:
        engine: the model and its store.
        replacing: replace an edit that asks the same in other words, also where that is not sure.
        keeping_both: keep such an edit beside the new one.
    """

    def __init__(self, engine: Engine, replacing: bool, keeping_both: bool) -> None:
        if replacing and keeping_both:
            raise EditError("replace and keep_both (--replace, --keep-both) exclude each other: give one of them")
        self._store, self._prompts, self._mode = engine.store, engine.prompts, engine.mode
        self._replacing, self._keeping_both = replacing, keeping_both

    def replaced(self, edits: Sequence[Edit], moving: set[str]) -> list[list[str]]:
        """Return the ids of the other stored edits that each of n new edits replaces.

        Args:
            edits: the new edits.
            moving: ids of stored edits that no longer ask what they did.

        Raises:
            EditError: if another edit shares a wording and wants another answer, or seems to ask the same.
        """
        same_words = [self._in_same_words(edit, {edit.id, *moving}) for edit in edits]
        asking = [[] for _ in edits] if self._keeping_both else self._mode.asking_same(edits)
        return [
            same + self._in_other_words(edit, found, {edit.id, *moving, *same})
            for edit, same, found in zip(edits, same_words, asking, strict=True)
        ]

    def _in_same_words(self, edit: Edit, ignored: set[str]) -> list[str]:
        replaced = [other.id for other in self._prompts.asking(edit.prompt) if other.id not in ignored]
        for other in (other for prompt in edit.prompts for other in self._prompts.sharing(prompt)):
            if other.id not in ignored.union(replaced) and other.target != edit.target:
                raise EditError(
                    f"edit {edit.id!r} and edit {other.id!r} in the store share a wording and want different answers: "
                    "take it out of one of them"
                )
        return replaced

    def _in_other_words(self, edit: Edit, asking: Sequence[Asking], ignored: set[str]) -> list[str]:
        others = [(self._store.get(one.id).edit, one.sure) for one in asking if one.id not in ignored]
        others = [(other, sure) for other, sure in others if other.target != edit.target]
        if unsure := [other for other, sure in others if not sure and not self._replacing]:
            raise EditError(
                f"edit {edit.id!r} ({quoted(edit.prompt)}) may ask what edit {unsure[0].id!r} in the store asks "
                f"({quoted(unsure[0].prompt)}), with another target: replace (--replace) puts it in that one's place, "
                "keep_both (--keep-both) keeps both"
            )
        return [other.id for other, _ in others]

    def with_corrections(self, edit: Edit, replaced: Sequence[str]) -> Edit:
        """Return a new edit with the wordings and quiet prompts that operators added to what it replaces.

        What asked the same in other words leaves all its wordings behind: the latest answers these too.
        """
        for old in self._predecessors(edit, replaced):
            in_other_words = prompt_key(old.edit.prompt) != prompt_key(edit.prompt)
            given = set() if in_other_words else {prompt_key(p) for p in (*old.given.prompts, *old.given.quiet)}
            known = given | {prompt_key(prompt) for prompt in (*edit.prompts, *edit.quiet)}
            wordings = old.edit.prompts if in_other_words else old.edit.variants
            allowed, silenced = (
                tuple(prompt for prompt in prompts if prompt_key(prompt) not in known)
                for prompts in (wordings, old.edit.quiet)
            )
            if allowed or silenced:
                edit = replace(edit, variants=(*edit.variants, *allowed), quiet=(*edit.quiet, *silenced))
        return edit

    def _predecessors(self, edit: Edit, replaced: Sequence[str]) -> list[StoredEdit]:
        own = self._store.find(edit.id)
        same = own is not None and prompt_key(own.edit.prompt) == prompt_key(edit.prompt)
        return ([own] if own is not None and same else []) + [self._store.get(edit_id) for edit_id in replaced]
