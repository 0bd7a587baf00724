"""Which stored edits ask what: a new edit meets those that share a wording with it without a look at all the others."""

from __future__ import annotations

from collections.abc import Mapping

from ..edit import Edit, prompt_key
from ..types import Prompt


class PromptLookup:
    """The live edits of a store by what they ask, disabled ones included."""

    def __init__(self) -> None:
        self._edits: dict[str, Edit] = {}
        self._sharing: dict[str, dict[str, None]] = {}  # what is asked -> ids, in order

    @property
    def ids(self) -> set[str]:
        """The ids of all edits."""
        return set(self._edits)

    def follow(self, changed: Mapping[str, Edit | None]) -> None:
        """Take in edits by id; ``None``: gone."""
        for edit_id, edit in changed.items():
            old = self._edits.pop(edit_id, None)
            for asked in _asked(old):
                self._sharing[asked].pop(edit_id)
                if not self._sharing[asked]:
                    del self._sharing[asked]
            if edit is not None:
                self._edits[edit_id] = edit
            for asked in _asked(edit):
                self._sharing.setdefault(asked, {})[edit_id] = None

    def sharing(self, prompt: Prompt) -> list[Edit]:
        """Return the edits one of whose wordings is ``prompt``."""
        return [self._edits[edit_id] for edit_id in self._sharing.get(prompt_key(prompt), ())]

    def asking(self, prompt: Prompt) -> list[Edit]:
        """Return the edits whose own prompt is ``prompt``."""
        asked = prompt_key(prompt)
        return [edit for edit in self.sharing(prompt) if prompt_key(edit.prompt) == asked]


def _asked(edit: Edit | None) -> set[str]:
    return {prompt_key(prompt) for prompt in edit.prompts} if edit is not None else set()
