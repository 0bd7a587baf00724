"""MEND's network: it turns what a matrix is given and the gradient by what it writes into another pair of both.

Section 3.2 of arXiv 2110.11309, and ``GradientTransform`` and ``IDMLP`` in the released code (eric-mitchell/mend). Both
vectors are normalised by the mean and spread of all that was seen while learning, and go through layers of low rank
that begin as the identity. Matrices of one shape share a network; each has its own scale and shift in each layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TINY = 1e-7
"""What is added to a standard deviation, as in the released code."""


class ResidualLayer(nn.Module):
    """A layer of low rank: x + max(0, s * (U V x + b) + o), with s and o of the matrix at hand.

    Args:
        size: d, numbers of x.
        rank: most rank of U V.
        modes: how many matrices share the layer.
        generator: draws V; U is zero, so that the layer begins as the identity.
    """

    def __init__(self, size: int, rank: int, modes: int, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(rank, size)
        self.u = nn.Parameter(torch.zeros(size, rank))
        self.v = nn.Parameter(torch.randn(rank, size, generator=generator))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(modes, size))
        self.shift = nn.Parameter(torch.zeros(modes, size))

    def forward(self, rows: Tensor, mode: int) -> Tensor:
        """Return rows (n, d) after the layer."""
        before = (rows @ self.v.T @ self.u.T + self.bias) * self.scale[mode] + self.shift[mode]
        # not relu, whose gradient at 0, where the layer begins, is 0
        return rows + before.clamp(min=0)


class GradientTransform(nn.Module):
    """The network that matrices of one shape share.

    Args:
        inputs: in, numbers that a matrix is given.
        outputs: out, numbers that it writes.
        modes: how many matrices share the network.
        rank: most rank of a layer.
        hidden: layers before the last.
        generator: draws the weights.

    Attributes:
        count: rows seen while learning.
        mean: (in + out,) their mean.
        spread: (in + out,) the sum of their squared distances from it.
    """

    count: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(
        self, inputs: int, outputs: int, modes: int, rank: int, hidden: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.inputs = inputs
        size = inputs + outputs
        self.layers = nn.ModuleList(ResidualLayer(size, rank, modes, generator) for _ in range(hidden + 1))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.zeros(size))

    def see(self, rows: Tensor) -> None:
        """Add rows (n, in + out) to mean and spread: Welford's sums, as in the released code, for many rows at once."""
        if not len(rows):
            return
        total, moved = self.count + len(rows), rows.mean(0) - self.mean
        own = (rows - rows.mean(0)).square().sum(0)
        self.spread += own + self.count * len(rows) / total * moved.square()
        self.mean += moved * len(rows) / total
        self.count.copy_(total)

    def forward(self, given: Tensor, gradients: Tensor, mode: int) -> tuple[Tensor, Tensor]:
        """Return the pair for another step: what the matrix is given (n, in) and gradients (n, out).

        Args:
            given: (n, in) what the matrix was given.
            gradients: (n, out) the loss's gradients by what it wrote.
            mode: the number of the matrix among those that share the network.
        """
        rows = torch.cat([given, gradients], 1).to(self.mean.dtype)
        if self.training:
            self.see(rows)
        deviation = (self.spread / (self.count - 1).clamp(min=1)).sqrt()
        rows = (rows - self.mean) / (deviation + TINY)
        for layer in self.layers:
            rows = layer(rows, mode)
        return rows[:, : self.inputs], rows[:, self.inputs :]
