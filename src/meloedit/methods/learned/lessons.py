"""Lessons: training edits as rows of tokens, with a prompt each that the edit must leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...backbones.batch import Example
from ...edit import prompt_key
from ...errors import EditError
from ...training.trainer import seeded

if TYPE_CHECKING:
    from ...edit import Edit
    from ...types import Progress, Prompt
    from ..base import Method


@dataclass(frozen=True)
class Lesson:
    """A training edit.

    Attributes:
        edit: the edit.
        inner: its prompt with its target: the row that the edit is made of.
        outer: its other wordings with the target; its prompt where it has none.
        outer_prompts: the prompts of these rows.
        held: a prompt that the edit must leave alone.
        held_row: that prompt with what the unedited model answers.
    """

    edit: Edit
    inner: Example
    outer: tuple[Example, ...]
    outer_prompts: tuple[Prompt, ...]
    held: Prompt
    held_row: Example

    def wording(self, number: int, seed: int) -> int:
        """Return which other wording a step takes, drawn anew for each step."""
        return int(torch.randint(len(self.outer), (1,), generator=seeded(seed, number, self.edit.id)))


def make_lessons(
    method: Method, edits: Sequence[Edit], tokens: int, seed: int, progress: Progress | None = None
) -> list[Lesson]:
    """Return the lessons of training edits; those that the model has no tokens or no room for are left out.

    The prompt that an edit must leave alone is the first of its quiet prompts; where it has none, the prompt of
    another training edit, as in the released code of MEND and SERAC.

    Args:
        method: the method, without any edit.
        edits: the training edits.
        tokens: most tokens of the unedited model's answer; 0: it is not asked.
        seed: seed of the choice of other edits.
        progress: told how many answers there are.
    """
    written = [(edit, rows) for edit in edits if (rows := _rows(method, edit)) is not None]
    held = [_held(method, i, [edit for edit, _ in written], seed) for i in range(len(written))]
    answers = [""] * len(held)
    if tokens:
        answers = [answer.text for answer in method.answer(held, tokens, progress=progress)]
    return [
        Lesson(edit, rows[0], rows[1:] or rows, edit.variants or (edit.prompt,), prompt, _with(method, prompt, answer))
        for (edit, rows), prompt, answer in zip(written, held, answers, strict=True)
    ]


def _rows(method: Method, edit: Edit) -> tuple[Example, ...] | None:
    try:
        for prompt in edit.quiet[:1]:
            method.backbone.encode(prompt)
        return tuple(method.examples([edit]))
    except EditError:
        return None


def _held(method: Method, number: int, edits: Sequence[Edit], seed: int) -> Prompt:
    """Return the prompt that an edit must leave alone."""
    edit = edits[number]
    if edit.quiet:
        return edit.quiet[0]
    own = {prompt_key(prompt) for prompt in edit.prompts}
    order = torch.randperm(len(edits), generator=seeded(seed, number, "held")).tolist()
    return next((edits[i].prompt for i in order if prompt_key(edits[i].prompt) not in own), edit.prompt)


def _with(method: Method, prompt: Prompt, answer: str) -> Example:
    """Return a prompt with an answer; with the end of one where the model says nothing."""
    backbone = method.backbone
    encoded = backbone.encode(prompt)
    try:
        return Example.of(encoded, backbone.encode_target(answer, encoded))
    except EditError:
        return Example.of(encoded, backbone.stop_ids[:1] or [0])
