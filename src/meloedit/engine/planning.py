"""What each edit means for the store, decided before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backbones.batch import Example
from ..edit import Edit, contradiction
from ..errors import EditError
from ..keys.grammar import make_lead

if TYPE_CHECKING:
    from .live import Live


@dataclass(frozen=True)
class PreparedEdit:
    """An edit to be made: its training rows (none if it is there already) and the other edits that it replaces."""

    edit: Edit
    rows: list[Example]
    replaced: list[str]


def plan(live: Live, edits: Sequence[Edit], replacing: bool) -> list[PreparedEdit]:
    """Decide what each edit means for the store, and tokenise it: every error that can be known is raised here.

    Raises:
        EditError: if two edits contradict each other, an id is taken by other content, or a text does not fit the
            model.
    """
    edits = [_named(live, edit) for edit in edits]
    if clash := contradiction(edits):
        first, second = clash
        raise EditError(
            f"edit {second + 1} contradicts edit {first + 1}: same prompt or id, other target; keep one of them"
        )
    present = {edit.id: stored.edit for edit in edits if (stored := live.store.find(edit.id)) is not None}
    # An edit that this call gives another prompt no longer asks its old one.
    moving = {edit.id for edit in edits if edit.id in present and present[edit.id].content != edit.content}
    planned: dict[str, PreparedEdit] = {}
    for edit in edits:
        old = present.get(edit.id)
        if old is not None and old.content != edit.content and not replacing:
            raise EditError(
                f"edit {edit.id!r} is in the store with other content: use replace (--replace) to change it, or "
                "another id"
            )
        if edit.id in planned:
            continue  # the same edit twice in one call
        if old is not None and old.content == edit.content and not (replacing and old.metadata != edit.metadata):
            planned[edit.id] = PreparedEdit(edit, [], [])
            continue
        passed = {edit.id, *moving}
        asked = [other.id for other in live.wordings.asking(edit.prompt) if other.id not in passed]
        for other in (other for prompt in edit.prompts for other in live.wordings.sharing(prompt)):
            if other.id not in passed.union(asked) and other.target != edit.target:
                raise EditError(
                    f"edit {edit.id!r} and edit {other.id!r} in the store share a wording and want different answers: "
                    "take it out of one of them"
                )
        planned[edit.id] = PreparedEdit(edit, _rows(live, edit), asked)
    return list(planned.values())


def _named(live: Live, edit: Edit) -> Edit:
    try:
        return live.backbone.named(edit)
    except EditError as error:
        raise EditError(f"edit {edit.id!r}: {error}") from None


def _rows(live: Live, edit: Edit) -> list[Example]:
    try:
        live.check_edit(edit)
        encoded = [form for prompt in edit.prompts for form in live.backbone.forms(prompt)]
        if live.config.train_with_lead_in:
            encoded += live.backbone.behind(make_lead(f"{live.config.seed}/{edit.id}"), edit.prompt)
        for prompt in edit.quiet:
            live.backbone.forms(prompt)
        return [Example.of(form, live.backbone.encode_target(edit.target, form)) for form in encoded]
    except EditError as error:
        raise EditError(f"edit {edit.id!r}: {error}") from None
