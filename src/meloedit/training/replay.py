"""Micro-batches and their replays: target logits under any blocks, with the frozen prefix computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from ..backbones.batch import Batch, EncoderBatch, Example
from ..config import MeloConfig
from ..hooks.blocks import Block
from ..types import Reach
from .causal_replay import CachedPrefix, CausalReplay
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

    def logits(self, blocks: Block, which: Tensor | None = None) -> Tensor:
        """Return the logits (M, V) at the M target positions of R rows, given a block for every row (R, ...).

        ``which`` (M',) numbers the positions that are wanted; ``None``: all.
        """

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
    """

    replay: Replay
    edits: Tensor
    open: Tensor | None = None

    def keep(self, training: Tensor) -> None:
        """Drop the rows of all edits but those still in training, given by number."""
        self._become(self.of(training))

    def leave_certain(self, probabilities: Tensor) -> None:
        """Look away from the tokens of long targets that are certain, for the next steps.

        The output embedding takes most of the time of a step, and a token that is certain teaches nothing.

        Args:
            probabilities: (M,) of all target tokens.
        """
        batch = self.replay.batch
        sizes = torch.tensor([len(row.target) for row in batch.rows])[batch.flat_rows]
        certain = (probabilities > CERTAIN) & (sizes > LONG)
        self.open = torch.nonzero(~certain).flatten() if certain.any() else None

    def of(self, edits: Tensor) -> MicroBatch:
        """Return the rows of these edits, given by number."""
        return self._rows(torch.isin(self.edits, edits))

    def take(self, which: Tensor) -> MicroBatch:
        """Take rows out of the batch, given as flags (R,), and return them."""
        taken = self._rows(which)
        self._become(self._rows(~which))
        return taken

    def _become(self, other: MicroBatch) -> None:
        self.replay, self.edits, self.open = other.replay, other.edits, other.open

    def _rows(self, which: Tensor) -> MicroBatch:
        if which.all():
            return MicroBatch(self.replay, self.edits, self.open)
        picks, opened = torch.nonzero(which).flatten(), self.open
        if opened is not None:
            positions = which[self.replay.batch.flat_rows]  # (M,) those that stay
            opened = (torch.cumsum(positions, 0) - 1)[opened[positions[opened]]]
        return MicroBatch(self.replay.select(picks), self.edits[picks], opened)


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
