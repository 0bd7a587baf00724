"""Forward passes of training: score the rows that blocks learn from, and try blocks on rows that they do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..hooks.blocks import Block, Factors
from .penalties import Penalties
from .replay import MicroBatch
from .scores import EditScores, Scores

LOOK_AGAIN = 3
"""Steps from one look at all positions of long targets to the next."""


class Passes:
    """Scores rows, each with the block of its edit.

    Blocks are stacked, in the order of the edits ``alive``, which are given by number.

    Args:
        penalties: those of the model.
    """

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties

    def over(self, batches: Sequence[MicroBatch], blocks: Block, alive: Tensor, whole: bool) -> Scores:
        """Score all rows.

        Args:
            batches: the rows.
            blocks: the blocks.
            alive: their edits.
            whole: score every position of the targets; if not, those of long targets are left out that were certain
                when all were last scored.
        """
        scores = Scores(len(alive))
        for batch in batches:
            if len(batch.edits):
                probabilities = self._add(scores, batch, blocks, alive, None if whole else batch.open)
                if whole:
                    batch.leave_certain(probabilities)
        return scores

    @torch.no_grad()
    def trial(
        self, tried: Sequence[MicroBatch], blocks: Block, alive: Tensor, edits: Tensor, least: float
    ) -> tuple[EditScores, list[MicroBatch]]:
        """Try blocks on rows that they were not trained on, and take out of these the rows where one fails.

        Args:
            tried: the rows.
            blocks: the blocks.
            alive: their edits.
            edits: those of them to try.
            least: the least probability that a target token must have there.

        Returns:
            The scores of the edits ``alive``, and the rows that fail.
        """
        scores, failing = Scores(len(alive)), []
        for batch in tried:
            asked = torch.isin(batch.edits, edits)
            if asked.any():
                self._add(scores, batch.of(edits), blocks, alive)
                fails = torch.zeros_like(asked)
                fails[asked] = scores.last_fails(least)
                failing += [batch.take(fails)] if fails.any() else []
        return scores.per_edit(), failing

    def _add(
        self, scores: Scores, batch: MicroBatch, blocks: Block, alive: Tensor, which: Tensor | None = None
    ) -> Tensor:
        """Add the scores of a batch; return the probabilities of its target tokens, or of those of ``which``."""
        number = torch.searchsorted(alive, batch.edits)  # of each row's block in the stack
        per_row = {
            name: Factors(*(factor[number.to(factor.device)] for factor in factors)) for name, factors in blocks.items()
        }
        logits, rows = batch.replay.logits(per_row, which), batch.replay.batch
        penalised = None if self._penalties.repetition == 1 else self._penalties.applied(logits, rows, which)
        return scores.add(logits, rows, number, which, penalised)
