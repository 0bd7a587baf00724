"""Losses of learning: of target tokens, and of the change of what must stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...backbones.batch import Example


def token_losses(logits: Sequence[Tensor], rows: Sequence[Example]) -> Tensor:
    """Return the cross-entropy (M,) of all target tokens of some rows, in nats."""
    targets = torch.tensor([token for row in rows for token in row.target], device=logits[0].device)
    return nn.functional.cross_entropy(torch.cat(list(logits)), targets, reduction="none")


def divergences(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Return KL(before, after) (M,) at all target tokens of some rows, in nats."""
    old, new = (torch.cat(list(one)).log_softmax(-1) for one in (before, after))
    return (old.exp() * (old - new)).sum(-1)


def group_means(values: Tensor, rows: Sequence[Example], groups: Sequence[int]) -> Tensor:
    """Return the mean (G,) of values over the tokens of each group's rows."""
    sizes = [len(row.target) for row in rows]
    of_token = torch.tensor(
        [group for group, size in zip(groups, sizes, strict=True) for _ in range(size)], device=values.device
    )
    count = groups[-1] + 1
    sums = values.new_zeros(count).index_add(0, of_token, values)
    return sums / torch.bincount(of_token, minlength=count)
