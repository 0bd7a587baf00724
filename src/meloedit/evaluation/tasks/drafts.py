"""Drafts: items as the readers of the tasks deliver them, before cleaning, with the task's other prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...edit import Edit
from ...errors import EditError
from ...types import Prompt
from .task import Item, Question


@dataclass(frozen=True)
class Draft:
    """An item before cleaning.

    Attributes:
        item: the item.
        where: file and line, for error messages.
        true: the answers that are true without the edit, where the file has them.
    """

    item: Item
    where: str
    true: tuple[str, ...] = ()


@dataclass
class Contents:
    """What a task's reader takes from its files.

    Attributes:
        drafts: the items, in the files' order.
        far: far prompts that came with the edits.
        portability: by group, the questions that follow from all its edits together.
        upstream: questions that the model was trained for.
        accurate: true sentences with their prompts.
        documents: texts that no edit should answer.
        left_out: by fault, how many rows are no item.
    """

    drafts: list[Draft] = field(default_factory=list)
    far: list[Prompt] = field(default_factory=list)
    portability: dict[int | None, tuple[Question, ...]] = field(default_factory=dict)
    upstream: list[Question] = field(default_factory=list)
    accurate: list[Question] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many edits the files have, with those that were left out."""
        return len(self.drafts) + sum(self.left_out.values())


def make_edit(where: str, prompt: Prompt, target: str, name: str, subject: str | None = None) -> Edit:
    """Return an edit with the id ``name``; if a text is unusable, the error starts with ``where``."""
    try:
        return Edit(prompt, target, name, subject=subject or "")
    except EditError as error:
        raise EditError(f"{where}: {error}") from None
