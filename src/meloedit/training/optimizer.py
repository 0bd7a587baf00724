"""Adam on the blocks of several edits at once, each block as if it were alone. Called by both trainers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..hooks.blocks import Block, Site, block_from_tensors, block_to_tensors

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def learning_rates(sites: Sequence[Site]) -> dict[str, float]:
    """Return the factors on the learning rate, by the tensors' names; those that are not named learn at the rate."""
    return {f"{site.name}.P": site.position_rate for site in sites}


class BlockAdam:
    """Adam on the blocks of several edits, stacked in float32 tables.

    Adam works elementwise, so a block's steps do not depend on the other blocks.

    P learns ``Site.position_rate`` times as fast as A and B, so that a step moves P e_position about as far as A x.

    Why not ``torch.optim.Adam``, which has the same formula: blocks leave, so ``keep`` would have to cut rows out of
    the parameters and out of the optimiser's state, which torch does not offer. Also the gradient is taken at the
    factors rounded to float16 and the step at the unrounded tables, so each step would copy gradients into ``.grad``.
    And torch rounds in another order, which would change the stored blocks' bits.

    Args:
        blocks: one block per edit, all of one shape.
        sites: their modules.
        lr: the learning rate; it may be changed between steps.
        epsilon: Adam's epsilon.
    """

    def __init__(self, blocks: Sequence[Block], sites: Sequence[Site], lr: float, epsilon: float = EPSILON) -> None:
        self.sites = sites
        tensors = [block_to_tensors(block) for block in blocks]
        self.tables = {name: torch.stack([one[name] for one in tensors]) for name in tensors[0]}
        self.dtypes = {f"{site.name}.{factor}": site.dtype for site in sites for factor in "ABP"}
        self.rates = learning_rates(sites)
        self.first = {name: torch.zeros_like(table) for name, table in self.tables.items()}
        self.second = {name: torch.zeros_like(table) for name, table in self.tables.items()}
        self.lr, self.epsilon = lr, epsilon
        self.count = 0  # one count serves all: blocks leave, none joins later
        self.leaves: dict[str, Tensor] = {}

    def rounded(self) -> Block:
        """Return the stacked blocks as they will be stored and used: leaves of autograd, for ``step``."""
        self.leaves = {name: t.half().to(self.dtypes[name]).requires_grad_() for name, t in self.tables.items()}
        return self._block(self.leaves)

    def stored(self, i: int) -> Block:
        """Return one block as the last forward pass used it, in float16 on the CPU."""
        return self._block({name: table[i].half().cpu() for name, table in self.tables.items()})

    def _block(self, tensors: dict[str, Tensor]) -> Block:
        return block_from_tensors(tensors, [site.name for site in self.sites])

    def step(self, loss: Tensor) -> None:
        """Take one Adam step on the unrounded tables, with the gradient of ``loss`` at the rounded ones."""
        gradients = [gradient.float() for gradient in torch.autograd.grad(loss, list(self.leaves.values()))]
        self.count += 1
        for (name, table), gradient in zip(self.tables.items(), gradients, strict=True):
            m, v, rate = self.first[name], self.second[name], self.rates.get(name)
            m.lerp_(gradient, 1 - BETA1)
            v.lerp_(gradient.square(), 1 - BETA2)
            step = self.lr * (m / (1 - BETA1**self.count)) / ((v / (1 - BETA2**self.count)).sqrt() + self.epsilon)
            table.sub_(step if rate is None else step * rate)

    def keep(self, which: Tensor) -> None:
        """Drop all blocks but ``which``: a finished block leaves, moments and all."""
        for tables in (self.tables, self.first, self.second):
            for name, table in tables.items():
                tables[name] = table[which.to(table.device)]
