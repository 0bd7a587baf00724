"""PromptLookup: the stored edits by what they ask in words."""

from __future__ import annotations

from collections.abc import Mapping

from ..edit import Edit, prompt_key
from ..types import Prompt


class PromptLookup:
    """The stored edits by their prompts and variants, disabled ones included: conflicts are found without a search."""

    def __init__(self) -> None:
        self._edits: dict[str, Edit] = {}
        self._ids: dict[str, dict[str, None]] = {}  # prompt key -> ids of edits, in order

    @property
    def ids(self) -> set[str]:
        """The ids of all edits."""
        return set(self._edits)

    def follow(self, changed: Mapping[str, Edit | None]) -> None:
        """Add, replace or (``None``) remove edits, by id."""
        for edit_id, edit in changed.items():
            for key in _prompt_keys(self._edits.pop(edit_id, None)):
                self._ids[key].pop(edit_id)
                if not self._ids[key]:
                    del self._ids[key]
            if edit is not None:
                self._edits[edit_id] = edit
            for key in _prompt_keys(edit):
                self._ids.setdefault(key, {})[edit_id] = None

    def edit(self, edit_id: str) -> Edit:
        """Return an edit by its id."""
        return self._edits[edit_id]

    def sharing(self, prompt: Prompt) -> list[Edit]:
        """Return the edits one of whose wordings is ``prompt``."""
        return [self._edits[edit_id] for edit_id in self._ids.get(prompt_key(prompt), ())]

    def asking(self, prompt: Prompt) -> list[Edit]:
        """Return the edits whose main prompt is ``prompt``."""
        key = prompt_key(prompt)
        return [edit for edit in self.sharing(prompt) if prompt_key(edit.prompt) == key]


def _prompt_keys(edit: Edit | None) -> set[str]:
    return {prompt_key(prompt) for prompt in edit.prompts} if edit is not None else set()
