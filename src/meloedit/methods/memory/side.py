"""WISE's side memory: copies of one matrix that edits train, with the least score of an edit; and their merging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Shard:
    """A copy of the matrix.

    Attributes:
        weight: the copy.
        least: the smallest score at which one of its edits left training; infinite: it has none.
        edits: the ids of its edits.
    """

    weight: Tensor
    least: float = math.inf
    edits: list[str] = field(default_factory=list)


def merge(base: Tensor, shards: Sequence[Shard], density: float, scale: float) -> Shard:
    """Merge shards by TIES: the greatest changes of each, where their signs agree with the sum's, as a weighted mean.

    Args:
        base: the matrix before all edits.
        shards: the shards.
        density: the share of a shard's changes that stays, the greatest ones.
        scale: what the changes are weighted with, together.
    """
    changes = torch.stack([_greatest(shard.weight - base, density) for shard in shards])
    share = scale / len(shards)
    agree = changes.sign() == (share * changes).sum(0).sign()
    weights = share * agree.sum(0)
    mixed = (share * changes * agree).sum(0) / torch.where(weights == 0, torch.ones_like(weights), weights)
    edits = [name for shard in shards for name in shard.edits]
    return Shard((base + mixed).to(base.dtype), min(shard.least for shard in shards), edits)


def _greatest(change: Tensor, density: float) -> Tensor:
    """Return a change with all but its greatest numbers replaced by zero."""
    kept = torch.zeros_like(change).flatten()
    places = change.abs().flatten().topk(max(1, int(density * change.numel()))).indices
    kept[places] = change.flatten()[places]
    return kept.reshape(change.shape)


def hinges(near: Tensor, far: Tensor, alpha: float, beta: float, gamma: float) -> Tensor:
    """Return WISE's loss of scores: an edit's above ``beta``, others below ``alpha``, ``gamma`` between them.

    Args:
        near: (n,) scores of an edit's rows.
        far: (m,) scores of rows that it does not concern.
        alpha: most score of the second.
        beta: least score of the first.
        gamma: least difference.
    """
    return _positive_mean(far[:, None] - near + gamma) + _positive_mean(far - alpha) + _positive_mean(beta - near)


def _positive_mean(values: Tensor) -> Tensor:
    """Return the mean of the positive ones of some values; 0 if there is none."""
    positive = values[values > 0]
    return positive.mean() if len(positive) else values.sum() * 0
