"""Planner: what each edit means for the store, decided before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..backbones.batch import Example
from ..edit import Edit, contradiction
from ..errors import EditError
from ..keys.grammar import make_lead
from ..trying.beginnings import made_beginning
from ..trying.rewordings import made_rewordings
from ..types import Prompt
from .checking import check_weights
from .prevailing import Prevailing

if TYPE_CHECKING:
    from .engine import Engine

SHORT_TARGET = 5
"""Tokens of a target, its end token included, up to which an edit is tried in fewer rewordings."""


@dataclass(frozen=True)
class PreparedEdit:
    """An edit to be made.

    Attributes:
        edit: the edit, its target as the model writes it, with the corrections of the scope that it takes over.
        rows: its training rows; none if it is stored already.
        replaced: ids of the other edits that it replaces.
        given: the edit without these corrections.
    """

    edit: Edit
    rows: list[Example]
    replaced: list[str]
    given: Edit

    @property
    def corrections(self) -> int:
        """How many corrections of the scope it takes over from what it replaces."""
        return len(self.edit.prompts) + len(self.edit.quiet) - len(self.given.prompts) - len(self.given.quiet)


def rows_of(engine: Engine, edit: Edit) -> list[Example]:
    """Return the rows that an edit's block is trained on.

    Raises:
        EditError: if a text of the edit does not fit the model.
    """
    backbone, policy, config = engine.backbone, engine.policy, engine.config
    try:
        policy.check_edit(edit)
        encoded = [form for prompt in edit.prompts for form in policy.forms(prompt)]
        if config.train_with_lead_in:
            encoded += backbone.with_lead_in(make_lead(f"{config.seed}/{edit.id}"), edit.prompt)
        for prompt in edit.quiet:  # to raise what is wrong with one; its key is taken after training
            policy.forms(prompt)
        return [backbone.row(edit.target, form) for form in encoded]
    except EditError as error:
        raise EditError(f"edit {edit.id!r}: {error}") from None


class Planner:
    """Checks and tokenises edits: every error that can be known before training is raised here.

    Args:
        engine: the model and its store.
        replacing: let an edit replace one of its id, or one that asks the same.
        keeping_both: keep stored edits that ask the same in other words.
    """

    def __init__(self, engine: Engine, replacing: bool = False, keeping_both: bool = False) -> None:
        check_weights(engine)
        self._engine, self._backbone = engine, engine.backbone
        self._store, self._config = engine.store, engine.config
        self._prevailing, self._replacing = Prevailing(engine, replacing, keeping_both), replacing

    def prepare(self, edits: Sequence[Edit]) -> list[PreparedEdit]:
        """Decide what each edit means for the store.

        Raises:
            EditError: if two edits contradict each other, an id has other content, or a text does not fit the model.
        """
        edits = [self._as_written(edit) for edit in edits]
        if clash := contradiction(edits):
            first, second = clash
            raise EditError(
                f"edit {second + 1} contradicts edit {first + 1}: same prompt or id, other target; keep one of them"
            )
        stored = {edit.id: found.given for edit in edits if (found := self._store.find(edit.id)) is not None}
        # An edit that this call gives another prompt no longer asks its old one.
        moving = {edit.id for edit in edits if edit.id in stored and stored[edit.id].content != edit.content}
        prepared: dict[str, PreparedEdit] = {}
        for edit in edits:
            old = stored.get(edit.id)
            if old is not None and old.content != edit.content and not self._replacing:
                raise EditError(
                    f"edit {edit.id!r} is in the store with other content: use replace (--replace) to change it, or "
                    "another id"
                )
            if edit.id in prepared:
                continue  # the same edit twice in one call
            known = old is not None and old.content == edit.content
            retold = known and self._replacing and old is not None and old.metadata != edit.metadata
            prepared[edit.id] = PreparedEdit(edit, [] if known and not retold else self._rows(edit), [], edit)
        new = [item for item in prepared.values() if item.rows]
        for item, replaced in zip(new, self._prevailing.replaced([item.edit for item in new], moving), strict=True):
            whole = self._prevailing.with_corrections(item.edit, replaced)
            rows = item.rows if whole is item.edit else self._rows(whole)
            prepared[whole.id] = PreparedEdit(whole, rows, replaced, item.given)
        return list(prepared.values())

    def _as_written(self, edit: Edit) -> Edit:
        try:
            return self._backbone.as_written(edit)
        except EditError as error:
            raise EditError(f"edit {edit.id!r}: {error}") from None

    def _rows(self, edit: Edit) -> list[Example]:
        rows = rows_of(self._engine, edit)
        return rows + self._tried(edit, max(len(row.target) for row in rows))

    def _tried(self, edit: Edit, tokens: int) -> list[Example]:
        """Return the rows that an edit's block is only tried on: rewordings, raw and chats in turn, and a begun answer.

        A row costs as much time as some steps of a short target, which seldom fails: it gets a quarter of the rows.
        """
        seed, count = f"{self._config.seed}/{edit.id}", self._config.rewordings or 0
        count = count if tokens > SHORT_TARGET else -(-count // 4)
        rows = [self._row(edit, one, turn=i) for i, one in enumerate(made_rewordings(edit.prompt, count, seed))]
        if count:
            rows.append(self._row(edit, edit.prompt, beginning=made_beginning(edit.prompt, seed)))
        return [replace(row, tried=True) for row in rows if row is not None]

    def _row(self, edit: Edit, prompt: Prompt, turn: int = 0, beginning: str = "") -> Example | None:
        """Return the row of a wording of an edit's prompt, in one of its forms; ``None`` where there is none."""
        backbone = self._backbone
        try:
            forms = [form for form in backbone.forms(prompt) if not beginning or form.form == "chat"]
            return backbone.row(edit.target, forms[turn % len(forms)], beginning) if forms else None
        except EditError:  # too long, or made of nothing that the model reads
            return None
