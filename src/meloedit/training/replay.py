"""Micro-batches and their replays: target logits under any blocks, with the frozen prefix computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from ..backbones.batch import Batch, EncoderBatch, Example
from ..config import MeloConfig
from ..hooks.blocks import Block
from ..types import Reach
from .causal_replay import CachedPrefix, CausalReplay
from .choice import Choice
from .encoder_replay import EncoderReplay

if TYPE_CHECKING:
    from ..hooks.encoder_router import EncoderRouter
    from ..hooks.router import Router

LONG = 12
"""Tokens of a target from which on those that are certain are left out of most steps."""
CERTAIN = 0.998
"""Probability of such a token."""
ROWS_PER_BATCH = 32
"""Rows run in one forward pass: enough for full matmul speed, few enough to be of like length."""


class Replay(Protocol):
    """Gives the target logits of a batch under any blocks, without running the frozen prefix again."""

    @property
    def batch(self) -> Batch:
        """The rows."""

    @property
    def head(self) -> nn.Linear | None:
        """The output embedding, where its logits can be computed for some tokens alone."""

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the M target positions of R rows, given a block for every row (R, ...)."""

    def states(self, blocks: Block) -> Tensor:
        """Return what ``read`` turns into these logits, one row for each position."""

    def read(self, states: Tensor) -> Tensor:
        """Return the logits of states, of all positions or of some."""

    def select(self, picks: Tensor) -> Replay:
        """Return the replay of the rows with these numbers, ascending."""


def open_replay(router: Router, batch: Batch, reach: Reach, cached: bool) -> Replay:
    """Return the replay of a batch.

    Args:
        router: the model and its hooks.
        batch: the rows.
        reach: where the blocks act.
        cached: whether to cache the frozen prefix; otherwise the whole model runs at every step.
    """
    if isinstance(batch, EncoderBatch):
        return EncoderReplay.of(cast("EncoderRouter", router), batch, cached)
    return CausalReplay(router, batch, reach, CachedPrefix.of(router, batch, reach) if cached else None)


@dataclass
class MicroBatch:
    """Rows run in one forward pass; a step sums the losses of all micro-batches.

    Attributes:
        replay: gives their target logits.
        edits: (R,) the number of the edit that each row belongs to.
        open: (M',) the target positions to look at until all are looked at again; ``None``: all M.
        choice: the tokens that these positions look at until then; ``None``: all.
    """

    replay: Replay
    edits: Tensor
    open: Tensor | None = None
    choice: Choice | None = None

    def keep(self, training: Tensor) -> None:
        """Drop the rows of all edits but those still in training, given by number."""
        self._become(self.of(training))

    def look_at_all(self, logits: Tensor, choosing: bool) -> None:
        """Look at all positions again, and at the likeliest tokens of each.

        Args:
            logits: (M, V) of all target positions.
            choosing: whether to look away from all other tokens.
        """
        self.open, self.choice = None, None
        if choosing and (head := self.replay.head) is not None:
            batch = self.replay.batch
            targets, others = (x.to(logits.device) for x in (batch.flat_targets, others_of(batch)))
            self.choice = Choice.of(head, logits, targets, others)

    def look_away(self, probabilities: Tensor) -> None:
        """Look away from tokens of long targets that are certain, for the next steps: they teach nothing.

        Args:
            probabilities: (M,) of all target tokens.
        """
        batch = self.replay.batch
        sizes = torch.tensor([len(row.target) for row in batch.rows])[batch.flat_rows]
        certain = (probabilities > CERTAIN) & (sizes > LONG)
        if certain.any():
            self.open = torch.nonzero(~certain).flatten()
            self.choice = self.choice and self.choice.select(self.open)

    def read(self, states: Tensor) -> Tensor:
        """Return the logits (M, V) of all target positions; what serves as well counts as the target."""
        batch = self.replay.batch
        return merged(self.replay.read(states), batch.flat_targets, others_of(batch))

    def look(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits that the positions look at, and which of them are the targets'.

        Args:
            states: those of all M positions.
        """
        opened = states if self.open is None else states[self.open.to(states.device)]
        if (choice := self.choice) is not None:
            return merged(choice.read(opened), choice.targets, choice.others), choice.targets
        at = slice(None) if self.open is None else self.open
        targets, others = (
            x[at].to(states.device) for x in (self.replay.batch.flat_targets, others_of(self.replay.batch))
        )
        return merged(self.replay.read(opened), targets, others), targets

    def of(self, edits: Tensor) -> MicroBatch:
        """Return the rows of these edits, given by number."""
        return self._rows(torch.isin(self.edits, edits))

    def take(self, which: Tensor) -> MicroBatch:
        """Take rows out of the batch, given as flags (R,), and return them."""
        taken = self._rows(which)
        self._become(self._rows(~which))
        return taken

    def _become(self, other: MicroBatch) -> None:
        self.replay, self.edits, self.open, self.choice = other.replay, other.edits, other.open, other.choice

    def _rows(self, which: Tensor) -> MicroBatch:
        if which.all():
            return MicroBatch(self.replay, self.edits, self.open, self.choice)
        picks, opened = torch.nonzero(which).flatten(), self.open
        stay = positions = which[self.replay.batch.flat_rows]  # (M,) the positions that stay
        if opened is not None:
            stay = positions[opened]
            opened = (torch.cumsum(positions, 0) - 1)[opened[stay]]
        choice = None if self.choice is None else self.choice.select(stay)
        return MicroBatch(self.replay.select(picks), self.edits[picks], opened, choice)


def others_of(batch: Batch) -> Tensor:
    """Return for each target token of a batch (M,) the one that serves as well; the token itself where none does."""
    first = [(row.other if row.other >= 0 else row.target[0], row) for row in batch.rows]
    return torch.tensor([token for other, row in first for token in (other, *row.target[1:])])


def merged(logits: Tensor, targets: Tensor, others: Tensor) -> Tensor:
    """Return logits in which what serves as well as a target adds to the target, and is gone by itself.

    Args:
        logits: (M, V).
        targets: (M,) which of them are the targets'.
        others: (M,) which serve as well.
    """
    at = torch.nonzero(others != targets).flatten().to(logits.device)
    if not len(at):
        return logits
    target, other = targets.to(logits.device)[at], others.to(logits.device)[at]
    both = torch.logaddexp(logits[at, target], logits[at, other])
    return logits.index_put((at, target), both).index_put((at, other), both.new_tensor(-torch.inf))


def micro_batches(
    router: Router, edits: Sequence[tuple[str, Sequence[Example]]], config: MeloConfig
) -> list[MicroBatch]:
    """Pack the rows of edits, given as ids and rows, into micro-batches, each with its frozen prefix."""
    rows = [row for _, examples in edits for row in examples]
    numbers = torch.tensor([i for i, (_, examples) in enumerate(edits) for _ in examples])
    return [
        MicroBatch(open_replay(router, batch, config.reach, config.prefix_cache), numbers[members])
        for members, batch in router.backbone.pack(rows, ROWS_PER_BATCH)
    ]
