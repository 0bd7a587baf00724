"""Forward passes of training: score the rows that blocks learn from, and try blocks on rows that they do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..hooks.blocks import Block, Factors
from .penalties import Penalties
from .replay import MicroBatch, merged, others_of
from .scores import EditScores, Scores

LOOK_AGAIN = 3
"""Steps from one look at all positions of long targets to the next."""


class Look:
    """One forward pass over the rows that blocks learn from.

    Attributes:
        learning: the scores of what was looked at, with gradients.
        scores: those of each edit. Where not all was looked at, they are an estimate: what was not counts as right.
        whole: whether all was looked at.
    """

    def __init__(self, penalties: Penalties, batches: Sequence[MicroBatch], alive: Tensor, whole: bool) -> None:
        self._penalties, self._batches, self._alive = penalties, batches, alive
        self._states: list[Tensor] = []
        self.whole, self.learning = whole, Scores(len(alive))
        every = Scores(len(alive)) if whole else self.learning
        self._every, self.scores = every, every.per_edit()

    def run(self, blocks: Block) -> Look:
        """Run the pass, with a block for each edit that is alive."""
        choosing = self._penalties.repetition == 1
        for batch in self._batches:
            states = batch.replay.states(of_rows(blocks, self._alive, batch))
            self._states.append(states)
            number = torch.searchsorted(self._alive, batch.edits)
            if self.whole:
                with torch.no_grad():
                    logits = batch.read(states.detach())
                    penalised = self._penalties.of(logits, batch.replay.batch)
                    found = self._every.add(logits, batch.replay.batch, number, penalised=penalised)
                    batch.look_at_all(logits, choosing)
            logits, targets = batch.look(states)
            penalised = self._penalties.of(logits, batch.replay.batch, batch.open)
            self.learning.add(logits, batch.replay.batch, number, batch.open, penalised, targets)
            if self.whole:
                batch.look_away(found)
        self.scores = self._every.per_edit()
        return self

    @torch.no_grad()
    def sure(self, edits: Tensor) -> EditScores:
        """Return the scores with those of these edits looked at as a whole."""
        every = Scores(len(self._alive))
        for batch, states in zip(self._batches, self._states, strict=True):
            rows = torch.isin(batch.edits, edits)
            if not rows.any():
                continue
            part = batch.replay.batch.select(torch.nonzero(rows).flatten())
            logits = batch.replay.read(states[rows[batch.replay.batch.flat_rows].to(states.device)])
            logits = merged(logits, part.flat_targets, others_of(part))
            number = torch.searchsorted(self._alive, batch.edits[rows])
            every.add(logits, part, number, penalised=self._penalties.of(logits, part))
        asked, found = torch.isin(self._alive, edits), every.per_edit()
        return EditScores(*(torch.where(asked, one, old) for one, old in zip(found, self.scores, strict=True)))


class Passes:
    """Runs rows, each with the block of its edit.

    Blocks are stacked, in the order of the edits ``alive``, which are given by number.

    Args:
        penalties: those of the model.
    """

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties

    def over(self, batches: Sequence[MicroBatch], blocks: Block, alive: Tensor, whole: bool) -> Look:
        """Score all rows.

        Args:
            batches: the rows.
            blocks: the blocks.
            alive: their edits.
            whole: look at every token of the vocabulary at every position of the targets; if not, at what mattered
                when all were last looked at.
        """
        return Look(self._penalties, [batch for batch in batches if len(batch.edits)], alive, whole).run(blocks)

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
                part = batch.of(edits)
                logits, rows = part.read(part.replay.states(of_rows(blocks, alive, part))), part.replay.batch
                number = torch.searchsorted(alive, part.edits)
                scores.add(logits, rows, number, penalised=self._penalties.of(logits, rows))
                fails = torch.zeros_like(asked)
                fails[asked] = scores.last_fails(least)
                failing += [batch.take(fails)] if fails.any() else []
        return scores.per_edit(), failing


def of_rows(blocks: Block, alive: Tensor, batch: MicroBatch) -> Block:
    """Return a block for each row of a batch, of those of the edits that are alive."""
    number = torch.searchsorted(alive, batch.edits)
    return {
        name: Factors(*(factor[number.to(factor.device)] for factor in factors)) for name, factors in blocks.items()
    }
