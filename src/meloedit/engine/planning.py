"""Planner: what each edit means for the store, decided before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backbones.batch import Example
from ..edit import Edit, contradiction
from ..errors import EditError
from ..keys.grammar import make_lead

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class PreparedEdit:
    """An edit to be made.

    Attributes:
        edit: the edit, its target as the model writes it.
        rows: its training rows; none if it is stored already.
        replaced: ids of the other edits that it replaces.
    """

    edit: Edit
    rows: list[Example]
    replaced: list[str]


class Planner:
    """Checks and tokenises edits: every error that can be known before training is raised here.

    Args:
        engine: the model and its store.
    """

    def __init__(self, engine: Engine) -> None:
        self._backbone, self._policy = engine.backbone, engine.policy
        self._store, self._prompts, self._config = engine.store, engine.prompts, engine.config

    def prepare(self, edits: Sequence[Edit], replacing: bool) -> list[PreparedEdit]:
        """Decide what each edit means for the store; ``replacing`` lets one replace another of its id.

        Raises:
            EditError: if two edits contradict each other, an id has other content, or a text does not fit the model.
        """
        edits = [self._as_written(edit) for edit in edits]
        if clash := contradiction(edits):
            first, second = clash
            raise EditError(
                f"edit {second + 1} contradicts edit {first + 1}: same prompt or id, other target; keep one of them"
            )
        stored = {edit.id: found.edit for edit in edits if (found := self._store.find(edit.id)) is not None}
        # An edit that this call gives another prompt no longer asks its old one.
        moving = {edit.id for edit in edits if edit.id in stored and stored[edit.id].content != edit.content}
        prepared: dict[str, PreparedEdit] = {}
        for edit in edits:
            old = stored.get(edit.id)
            if old is not None and old.content != edit.content and not replacing:
                raise EditError(
                    f"edit {edit.id!r} is in the store with other content: use replace (--replace) to change it, or "
                    "another id"
                )
            if edit.id in prepared:
                continue  # the same edit twice in one call
            if old is not None and old.content == edit.content and not (replacing and old.metadata != edit.metadata):
                prepared[edit.id] = PreparedEdit(edit, [], [])
                continue
            replaced = self._replaced(edit, {edit.id, *moving})
            prepared[edit.id] = PreparedEdit(edit, self._rows(edit), replaced)
        return list(prepared.values())

    def _replaced(self, edit: Edit, ignored: set[str]) -> list[str]:
        """Return the stored edits of the same prompt; ``ignored`` ones no longer ask what they did.

        Raises:
            EditError: if another edit shares a wording and wants another answer.
        """
        replaced = [other.id for other in self._prompts.asking(edit.prompt) if other.id not in ignored]
        for other in (other for prompt in edit.prompts for other in self._prompts.sharing(prompt)):
            if other.id not in ignored.union(replaced) and other.target != edit.target:
                raise EditError(
                    f"edit {edit.id!r} and edit {other.id!r} in the store share a wording and want different answers: "
                    "take it out of one of them"
                )
        return replaced

    def _as_written(self, edit: Edit) -> Edit:
        try:
            return self._backbone.as_written(edit)
        except EditError as error:
            raise EditError(f"edit {edit.id!r}: {error}") from None

    def _rows(self, edit: Edit) -> list[Example]:
        backbone = self._backbone
        try:
            self._policy.check_edit(edit)
            encoded = [form for prompt in edit.prompts for form in self._policy.forms(prompt)]
            if self._config.train_with_lead_in:
                encoded += backbone.with_lead_in(make_lead(f"{self._config.seed}/{edit.id}"), edit.prompt)
            for prompt in edit.quiet:  # to raise what is wrong with one; its key is taken after training
                self._policy.forms(prompt)
            return [Example.of(form, backbone.encode_target(edit.target, form)) for form in encoded]
        except EditError as error:
            raise EditError(f"edit {edit.id!r}: {error}") from None
