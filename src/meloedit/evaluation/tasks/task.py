"""What a task gives to be scored: edits, and the prompts that tell whether they hold, generalise and stay local."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...edit import Edit
from ...errors import EditError
from ...text import counted

EDIT_FAULTS = ("duplicates", "no op", "contradictory", "unwritable", "answered right")
"""Why an edit is left out, in words."""
Kind = Literal["question", "passage", "document"]
"""Short answers to questions or cloze prompts; sentences that go on a text; labels of whole documents."""


@dataclass(frozen=True)
class Probe:
    """A prompt and the answers that count as right, the first of them the one that is scored by likelihood.

    ``subject`` says what it is about where that matters (the number of the biography that a sentence is from).
    """

    prompt: str
    answers: tuple[str, ...]
    subject: str | None = None


@dataclass(frozen=True)
class Item:
    """One edit and what is asked about it; nothing but the edit is ever trained on.

    Attributes:
        edit: the edit.
        rephrases: unseen other wordings; the answer must be the edit's target.
        near: prompts near the edit whose answers must stay the base model's.
        attribute: prompts about other subjects of which the target is true; asked only where routes are measured.
        portability: questions whose answer follows from the edit.
        group: items with one number are edited together and alone, apart from all others (MQuAKE's cases).
        subject: what the edit is about; as a probe's.
    """

    edit: Edit
    rephrases: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    attribute: tuple[str, ...] = ()
    portability: tuple[Probe, ...] = ()
    group: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Far:
    """A prompt that has nothing to do with any edit.

    Attributes:
        prompt: the prompt.
        kind: where it is from (``nq``, ``nq dressed``, ...).
        question: the number of the question that it and others are forms of.
    """

    prompt: str
    kind: str
    question: int | None = None


@dataclass(frozen=True)
class Task:
    """A task, read from files.

    Attributes:
        name: its name.
        kind: what its prompts and answers are.
        items: the edits with their prompts, in the seeded order in which they are made.
        far: far prompts.
        upstream: probes of what the model was trained for; they must stay right.
        accurate: true sentences with their prompts, which must stay likely.
        documents: texts of the kind that no edit should answer, to calibrate on; never scored.
        only_wrong: whether what the model answers right already is no edit.
        cleaning: how many rows of each kind of fault were found, and what was done (``rule``).
        files: name, role, sha256 and rows of each file.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    far: tuple[Far, ...] = ()
    upstream: tuple[Probe, ...] = ()
    accurate: tuple[Probe, ...] = ()
    documents: tuple[str, ...] = ()
    only_wrong: bool = False
    cleaning: dict[str, Any] = field(default_factory=dict)
    files: tuple[dict[str, Any], ...] = ()

    def take(self, count: int | None) -> tuple[Item, ...]:
        """Return the first ``count`` items.

        Raises:
            EditError: if there are fewer, or none at all; it says what was left out.
        """
        if self.items and (count is None or count <= len(self.items)):
            return self.items[:count]
        rows = self.cleaning.get("rows", 0)
        left = ", ".join(f"{number:,} {name}" for name, number in self.left_out() if name in EDIT_FAULTS)
        told = f" (of {counted(rows, 'row')}; left out: {left})" if left else ""
        if not count:
            raise EditError(f"task {self.name}: no edit is left{told}")
        there, advice = counted(len(self.items), "edit"), f"give --edits {len(self.items)}, or more data"
        raise EditError(f"task {self.name}: {there}{told}, fewer than the {count:,} asked for: {advice}")

    def left_out(self) -> list[tuple[str, int]]:
        """Return what was left out, in words, and how often."""
        counts = [(name, number) for name, number in self.cleaning.items() if name not in ("rows", "rule")]
        return [(name.replace("_", " "), number) for name, number in counts if number]
