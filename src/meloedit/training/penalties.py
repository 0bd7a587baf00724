"""Penalties on repetition that a model ships in its generation settings: ``generate`` applies them to every answer.

Training looks at the logits with the penalty and without it, so that an edit holds either way. What forbids a target
altogether is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backbones.batch import Batch, Example

if TYPE_CHECKING:
    from ..backbones import Backbone


class Penalties:
    """The penalties of a model's ``generation_config``, as ``generate`` applies them.

    Attributes:
        repetition: the logit of a token that stands before, in the prompt or in the answer, is divided by this if it is
            positive, and multiplied if it is negative (https://arxiv.org/abs/1909.05858).
        ngram: no run of so many tokens may come twice, prompt included; 0: any may.

    Args:
        backbone: the model.
    """

    def __init__(self, backbone: Backbone) -> None:
        settings: Any = getattr(backbone.model, "generation_config", None)
        self.repetition = float(getattr(settings, "repetition_penalty", None) or 1.0)
        self.ngram = int(getattr(settings, "no_repeat_ngram_size", None) or 0)
        self._fill = backbone.pad_id
        self._prompt_counts = backbone.answer_follows_prompt

    def of(self, logits: Tensor, batch: Batch, which: Tensor | None = None) -> Tensor | None:
        """Return what ``applied`` returns; ``None`` if the model ships no penalty."""
        return None if self.repetition == 1 else self.applied(logits, batch, which)

    def applied(self, logits: Tensor, batch: Batch, which: Tensor | None = None) -> Tensor:
        """Return logits (M, V) of a batch's target positions, or of those of ``which``, with the penalty."""
        positions = range(len(batch.flat_rows)) if which is None else which.tolist()
        first = torch.bincount(batch.flat_rows, minlength=len(batch.rows)).cumsum(0).roll(1).tolist()
        first[0] = 0
        before = torch.zeros(logits.shape, dtype=torch.bool)
        for at, position in enumerate(positions):
            number = int(batch.flat_rows[position])
            row = batch.rows[number]
            before[at, [*self._prompt(row), *row.target[: position - first[number]]]] = True
        penalised = torch.where(logits > 0, logits / self.repetition, logits * self.repetition)
        return torch.where(before.to(logits.device), penalised, logits)

    def _prompt(self, row: Example) -> list[int]:
        # Padding counts as what stands before, too: in a batch most rows have some.
        return [*row.prompt, self._fill] if self._prompt_counts else [self._fill]

    def forbids(self, rows: Sequence[Example]) -> str:
        """Return what forbids the target of some row, in words; empty if nothing does."""
        if self.ngram and any(self._repeats(row) for row in rows):
            return (
                f"the model's own setting no_repeat_ngram_size={self.ngram} forbids this target, which repeats itself "
                "or the prompt: generate with no_repeat_ngram_size=0"
            )
        return ""

    def _repeats(self, row: Example) -> bool:
        tokens = [*row.prompt, *row.target] if self._prompt_counts else row.target
        start = len(tokens) - len(row.target)
        seen = set()
        for end in range(self.ngram, len(tokens) + 1):
            run = tuple(tokens[end - self.ngram : end])
            if run in seen and end > start:
                return True
            seen.add(run)
        return False
