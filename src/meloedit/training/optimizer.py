"""BlockAdam: Adam on the blocks of several edits, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..hooks.blocks import Block, Site

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


Factors = dict[str, tuple[Tensor, Tensor]]


class BlockAdam:
    """Blocks of several edits in stacked float32 tables, and Adam on them (elementwise: each block has its own).

    A column of A that reads a place of the answer learns ``Site.size`` times as fast as one that reads a feature, so
    that a step moves what A makes of a place about as far as what it makes of the input.
    """

    def __init__(self, blocks: Sequence[Factors], sites: Sequence[Site], lr: float, epsilon: float = EPSILON) -> None:
        self.names = list(blocks[0])
        self.tables = [torch.stack([block[name][i] for block in blocks]) for name in self.names for i in (0, 1)]
        self.dtypes = [site.dtype for site in sites for _ in (0, 1)]
        self.rates = [rate for site in sites for rate in (_column_rates(site, blocks[0][site.name][0].shape[1]), None)]
        self.first = [torch.zeros_like(table) for table in self.tables]
        self.second = [torch.zeros_like(table) for table in self.tables]
        self.lr, self.epsilon = lr, epsilon
        self.count = 0  # one count serves all: blocks leave, none joins later
        self.leaves: list[Tensor] = []

    def rounded(self) -> Factors:
        """Return the factors as they will be stored and used, as leaves of autograd whose gradients ``step`` takes."""
        self.leaves = [t.half().to(dtype).requires_grad_() for t, dtype in zip(self.tables, self.dtypes, strict=True)]
        return dict(zip(self.names, zip(self.leaves[::2], self.leaves[1::2], strict=True), strict=True))

    def stored(self, i: int) -> Block:
        """Return one block as the last forward pass used it, in float16 on the CPU."""
        half = [table[i].half().cpu() for table in self.tables]
        return dict(zip(self.names, zip(half[::2], half[1::2], strict=True), strict=True))

    def step(self, loss: Tensor) -> None:
        """Take one Adam step on the unrounded tables, with the gradient of ``loss`` at the rounded ones."""
        gradients = [gradient.float() for gradient in torch.autograd.grad(loss, self.leaves)]
        self.count += 1
        for table, gradient, m, v, rate in zip(
            self.tables, gradients, self.first, self.second, self.rates, strict=True
        ):
            m.lerp_(gradient, 1 - BETA1)
            v.lerp_(gradient.square(), 1 - BETA2)
            step = self.lr * (m / (1 - BETA1**self.count)) / ((v / (1 - BETA2**self.count)).sqrt() + self.epsilon)
            table.sub_(step if rate is None else step * rate)

    def keep(self, which: Tensor) -> None:
        """Drop all blocks but ``which``: a finished block leaves, moments and all."""
        for tables in (self.tables, self.first, self.second):
            tables[:] = [table[which.to(table.device)] for table in tables]


def _column_rates(site: Site, width: int) -> Tensor | None:
    """Return how fast the columns of A learn (in + K,); ``None``: all alike."""
    if width == site.inputs:
        return None
    rates = torch.ones(width, device=site.device)
    rates[site.inputs :] = site.size
    return rates
