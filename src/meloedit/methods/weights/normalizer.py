"""UltraEdit's lifelong normaliser: the mean and the spread of everything that was seen so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Normalizer:
    """Running mean and spread of rows, added up as the authors' ``RunningMeanStd`` does.

    Attributes:
        count: rows so far.
        mean: (d,) their mean.
        spread: (d,) the sum of their squared distances from it. A part of n rows adds n times its variance over n - 1.
    """

    count: int
    mean: Tensor
    spread: Tensor

    @classmethod
    def empty(cls, size: int, like: Tensor) -> Normalizer:
        """Return one that has seen nothing.

        Args:
            size: d.
            like: a tensor of the dtype and on the device wanted.
        """
        return cls(0, like.new_zeros(size), like.new_zeros(size))

    def update(self, rows: Tensor) -> None:
        """Add rows (n, d). One row alone adds no variance of its own, where the authors' code adds NaN."""
        n, moved = len(rows), rows.mean(0) - self.mean
        total = self.count + n
        own = n * rows.var(0) if n > 1 else torch.zeros_like(self.spread)
        self.spread = self.spread + own + self.count * n * moved.square() / total
        self.mean = self.mean + n * moved / total
        self.count = total

    def __call__(self, rows: Tensor) -> Tensor:
        """Return rows (n, d) less the mean, in units of the standard deviation."""
        tiny = torch.finfo(rows.dtype).eps
        return (rows - self.mean) / ((self.spread / (self.count - 1 + tiny)).sqrt() + tiny)
