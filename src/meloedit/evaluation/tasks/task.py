"""A task: edits, and the prompts that test whether they hold, generalise and leave other answers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...edit import Edit, prompt_key
from ...errors import EditError
from ...text import counted
from ...types import Prompt

EDIT_FAULTS = (
    "duplicates",
    "uncut",
    "no op",
    "contradictory",
    "equal prompts",
    "conversation edits",
    "unwritable",
    "answered right",
)
"""The reasons to leave out an edit, as messages write them."""
Kind = Literal["question", "passage", "document"]
"""What prompts and answers are: questions or cloze prompts with short answers, passages with the sentence that follows,
or documents with labels."""


@dataclass(frozen=True)
class Question:
    """A prompt with its right answers.

    Attributes:
        prompt: the prompt.
        answers: every answer that counts as right; likelihoods are of the first.
        subject: what the prompt is about, where that matters (the number of a sentence's biography).
        before: every answer that was right before the edit, where the file says it; of questions that follow from one.
        kind: of what kind a question that follows from an edit is (``2 hops``, ``subject aliasing``).
    """

    prompt: str
    answers: tuple[str, ...]
    subject: str | None = None
    before: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True)
class Item:
    """One edit and the prompts that test it. Methods train on the edit alone.

    Attributes:
        edit: the edit.
        rephrases: unseen other wordings; the answer must be the edit's target.
        near: prompts near the edit whose answers must stay the base model's.
        attribute: prompts about other subjects of which the target is true; scored only where routes are measured.
        portability: questions whose answer follows from the edit.
        chats: conversations that ask the edit's question last; the answer must be the edit's target.
        group: items with the same number are edited together, apart from all other items (a case of MQuAKE,
            or each edit under the protocol ``single``).
        subject: what the edit is about, as in ``Question``.
        kinds: of what kind rephrasings, near prompts and chats are (``terse``, ``same relation``), by ``prompt_key``.
        lang: the language of the prompts, such as ``en``, if the file says it.
    """

    edit: Edit
    rephrases: tuple[Prompt, ...] = ()
    near: tuple[Prompt, ...] = ()
    attribute: tuple[Prompt, ...] = ()
    portability: tuple[Question, ...] = ()
    chats: tuple[Prompt, ...] = ()
    group: int | None = None
    subject: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    lang: str | None = None

    def kind_of(self, prompt: Prompt) -> str | None:
        """Return the kind of one of the item's prompts, if it has one."""
        return self.kinds.get(prompt_key(prompt))


@dataclass(frozen=True)
class FarPrompt:
    """A prompt unrelated to every edit.

    Attributes:
        prompt: the prompt.
        kind: where it comes from (``nq``, ``nq dressed``, ...).
        question: a number that all forms of the same question share.
    """

    prompt: Prompt
    kind: str
    question: int | None = None


@dataclass(frozen=True)
class Task:
    """A task, read from files.

    Attributes:
        name: its name.
        kind: what its prompts and answers are.
        items: the edits with their prompts, in the seeded order of editing.
        far: far prompts.
        upstream: questions that the model was trained for; its answers must stay right.
        accurate: true sentences with their prompts; they must stay likely.
        documents: texts that no edit should answer, for calibration; never scored.
        only_wrong: whether edits that the model already answers right are left out.
        cleaning: how many rows had each fault, the number of ``rows``, and the cleaning ``rule`` in words.
        files: name, role, sha256 and rows of each file.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    far: tuple[FarPrompt, ...] = ()
    upstream: tuple[Question, ...] = ()
    accurate: tuple[Question, ...] = ()
    documents: tuple[str, ...] = ()
    only_wrong: bool = False
    cleaning: dict[str, Any] = field(default_factory=dict)
    files: tuple[dict[str, Any], ...] = ()

    def take(self, count: int | None) -> tuple[Item, ...]:
        """Return the first ``count`` items; all for ``None``.

        Where the count cuts a group, the questions that follow from all of the group's edits are left out.

        Raises:
            EditError: if there are fewer, or none at all; the message says how many were left out and why.
        """
        if self.items and (count is None or count <= len(self.items)):
            return _without_cut_group(self.items, len(self.items) if count is None else count)
        rows = self.cleaning.get("rows", 0)
        left_out = ", ".join(f"{number:,} {name}" for name, number in self.left_out() if name in EDIT_FAULTS)
        reasons = f" (of {counted(rows, 'row')}; left out: {left_out})" if left_out else ""
        if not count:
            raise EditError(f"task {self.name}: no edit is left{reasons}")
        there, advice = counted(len(self.items), "edit"), f"give --edits {len(self.items)}, or more data"
        raise EditError(f"task {self.name}: {there}{reasons}, fewer than the {count:,} asked for: {advice}")

    def left_out(self) -> list[tuple[str, int]]:
        """Return the faults that rows were left out for, in words, each with the number of rows."""
        counts = [(name, number) for name, number in self.cleaning.items() if name not in ("rows", "rule")]
        return [(name.replace("_", " "), number) for name, number in counts if number]


def _without_cut_group(items: tuple[Item, ...], count: int) -> tuple[Item, ...]:
    """Return the first items, without the portability of a group that goes on behind them."""
    first, rest = items[:count], items[count:]
    cut = first[-1].group if first and rest and rest[0].group == first[-1].group else None
    return tuple(replace(item, portability=()) if cut is not None and item.group == cut else item for item in first)
