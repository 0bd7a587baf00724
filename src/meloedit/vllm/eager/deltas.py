"""Deltas: what the blocks of a pass add to the edited modules, on the rows of the tokens that they act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...hooks.blocks import Factors, RowBlocks, delta

if TYPE_CHECKING:
    from ..edits.passes import Pass


class Group(NamedTuple):
    """Tokens whose blocks have one shape.

    Attributes:
        tokens: (n T,) their rows in the pass, those of a block one after another.
        position: (n, T) the position of each in its answer.
        factors: per module, stacked (n, ...).
    """

    tokens: Tensor
    position: Tensor
    factors: dict[str, Factors]

    def add(self, name: str, x: Tensor, y: Tensor) -> None:
        """Add to the output y (T, out) of a module, in place, given its input x (T, in)."""
        factors = self.factors[name]
        own = x[self.tokens].to(factors.a.dtype).unflatten(0, self.position.shape)
        position = self.position if factors.p.shape[-1] else None
        # only these rows are written: all others keep the base model's values bit for bit
        y[self.tokens] += delta(own, factors, position).flatten(0, 1).to(y.dtype)


class Deltas:
    """Gathers what acts in a pass. Of a request that is answering one token comes at a time: these are stacked.

    Args:
        device: where the modules are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stacked: dict[tuple[int, ...], dict[str, Factors]] = {}  # by the blocks' identity, of the last pass
        self._kept: list[RowBlocks] = []  # so that no other block takes their identity

    def of(self, one: Pass, blocks: Sequence[tuple[int, RowBlocks]]) -> list[Group]:
        """Return the groups of a pass, given the blocks that act on the requests at some places of it."""
        single: dict[tuple[int, ...], list[tuple[int, int, RowBlocks]]] = {}
        groups = []
        for place, block in blocks:
            begin, past, end = int(one.begin[place]), int(one.past[place]), int(one.ends[place])
            first = max(block.starts[0], past)
            if first >= end:
                continue  # its prompt is still running
            answer = block.answers[0]
            if end - first == 1:
                shape = tuple(next(iter(block.factors.values())).p.shape[1:])
                single.setdefault(shape, []).append((begin + first - past, first - answer, block))
                continue
            tokens = torch.arange(begin + first - past, begin + end - past, device=self._device)
            position = torch.arange(first - answer, end - answer, device=self._device)[None]
            groups.append(Group(tokens, position, dict(block.factors)))
        stacked = {}
        for found in single.values():
            identity = tuple(id(block) for *_, block in found)
            factors = self._stacked.get(identity) or _stack([block for *_, block in found])
            stacked[identity] = factors
            tokens = torch.tensor([token for token, *_ in found], device=self._device)
            position = torch.tensor([[at] for _, at, _ in found], device=self._device)
            groups.append(Group(tokens, position, factors))
        self._stacked, self._kept = stacked, [block for found in single.values() for *_, block in found]
        return groups


def _stack(blocks: Sequence[RowBlocks]) -> dict[str, Factors]:
    if len(blocks) == 1:
        return dict(blocks[0].factors)
    return {
        name: Factors(*(torch.cat(parts) for parts in zip(*(block.factors[name] for block in blocks), strict=True)))
        for name in blocks[0].factors
    }
