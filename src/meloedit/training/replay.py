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

ROWS_PER_BATCH = 32
"""Rows run in one forward pass: enough for full matmul speed, few enough to be of like length."""


class Replay(Protocol):
    """Gives the target logits of a batch under any blocks, without running the frozen prefix again."""

    @property
    def batch(self) -> Batch:
        """The rows."""

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the M target positions of R rows, given a block for every row (R, ...)."""

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
    """

    replay: Replay
    edits: Tensor

    def keep(self, training: Tensor) -> None:
        """Drop the rows of all edits but those still in training, given by number."""
        picks = torch.nonzero(torch.isin(self.edits, training)).flatten()
        if len(picks) < len(self.edits):
            self.replay, self.edits = self.replay.select(picks), self.edits[picks]


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
