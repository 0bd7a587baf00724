"""The low-rank block that carries an edit, and what it adds to the edited modules' outputs.

Training makes a ``Block`` per edit, and the bank stores it. The router's hooks gather the blocks that a batch needs as
``RowBlocks``, which add them to the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..callers.precision import without_autocast


class Factors(NamedTuple):
    """The three matrices of a block at one module, which adds B (A x + P e_position) to the module's output.

    e_position is the unit vector of a token's position in the answer. So a block can tell where its answer begins from
    where it ends, however the prompt is worded. Without positions (K = 0) the factors are a plain LoRA.

    Attributes:
        a: (..., rank, in) reads the module's input.
        b: (..., out, rank) writes to the module's output.
        p: (..., rank, K) has a column for each of the first K - 1 positions of the answer, and one for all later ones.
    """

    a: Tensor
    b: Tensor
    p: Tensor


Block = dict[str, Factors]
"""Factors per module name: one edit's block, or those of several edits stacked (n, ...)."""


def block_to_tensors(block: Block) -> dict[str, Tensor]:
    """Return a block, or a stack of blocks, as a store has it: ``NAME.A``, ``NAME.B`` and, where K > 0, ``NAME.P``."""
    tensors: dict[str, Tensor] = {}
    for name, (a, b, p) in block.items():
        tensors |= {f"{name}.A": a, f"{name}.B": b}
        if p.shape[-1]:
            tensors[f"{name}.P"] = p
    return tensors


def block_from_tensors(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Block:
    """Return the block, or the stack of blocks, that ``block_to_tensors`` turned into these tensors.

    Args:
        tensors: the factors by name.
        names: the modules.
    """
    block = {}
    for name in names:
        a, b = tensors[f"{name}.A"], tensors[f"{name}.B"]
        p = tensors.get(f"{name}.P")
        block[name] = Factors(a, b, a.new_zeros(*a.shape[:-1], 0) if p is None else p)
    return block


def with_positions(block: Block, positions: int) -> Block:
    """Return a block with the first ``positions`` columns of its P alone."""
    return {name: Factors(a, b, p[..., :positions].contiguous()) for name, (a, b, p) in block.items()}


@dataclass(frozen=True)
class Site:
    """A target module as the bank sees it.

    Attributes:
        name: its name in the model.
        inputs: features of its input.
        outputs: features of its output.
        dtype: in which it computes.
        device: where it computes.
        position_rate: how much faster P learns than A. It is the L1 norm of the module's input (the mean over a few
            tokens), since a step of Adam moves each entry of A by the learning rate, and so A x by up to the norm of x.
    """

    name: str
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device
    position_rate: float = 1.0


def delta(x: Tensor, factors: Factors, position: Tensor | None = None) -> Tensor:
    """Return B (A x + P e_position) for every token: the block term of arXiv 2312.11795, Eq. 10, and the part of P.

    The scale is 1 (alpha = rank).

    Args:
        x: (n, T, in) the module's input, one row per block.
        factors: a (n, rank, in), b (n, out, rank), p (n, rank, K).
        position: (n, T) 0 at the token that predicts the first token of the answer, negative before it; positions
            from K - 1 on share a column of P. ``None`` leaves P out.

    Returns:
        (n, T, out).
    """
    a, b, p = factors
    with without_autocast(x.device):  # in the dtype of the block, as it was trained
        low = torch.bmm(x, a.transpose(1, 2))  # A x
        if position is not None:
            low = low + _columns_at(p, position)  # + P e_position
        return torch.bmm(low, b.transpose(1, 2))


def _columns_at(p: Tensor, position: Tensor) -> Tensor:
    """Return P e_position (n, T, rank), which is zero before the answer, given P (n, rank, K)."""
    rank, positions = p.shape[1:]
    column = position.clamp(0, positions - 1)[:, :, None].expand(-1, -1, rank)
    return p.transpose(1, 2).gather(1, column) * (position >= 0)[:, :, None]


@dataclass
class RowBlocks:
    """The blocks of one shape that rows of a batch use, already gathered.

    Attributes:
        rows: (n,) row numbers in the batch, ascending.
        starts: per row the column of the whole sequence (cached part included) from which its block acts.
        answers: per row the column of the token that predicts the first one of the answer.
        factors: per module, stacked (n, ...).
    """

    rows: Tensor
    starts: list[int]
    answers: list[int]
    factors: Mapping[str, Factors]
    _on: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def repeated(self, times: int) -> RowBlocks:
        """Return the blocks of a batch that has every row ``times`` times."""
        rows = (self.rows[:, None] * times + torch.arange(times)).flatten()
        starts, answers = (
            [column for column in columns for _ in range(times)] for columns in (self.starts, self.answers)
        )
        factors = {
            name: Factors(*(factor.repeat_interleave(times, 0) for factor in stacked))
            for name, stacked in self.factors.items()
        }
        return RowBlocks(rows, starts, answers, factors)

    def moved(self, places: Mapping[int, int], columns: int) -> RowBlocks | None:
        """Return the blocks of a batch in which rows have other places and all columns are shifted.

        Args:
            places: by row number in this batch, its number in the new one; other rows have left.
            columns: added to every column; negative where columns were cut off on the left.

        Returns:
            ``None`` if all its rows have left.
        """
        kept = [i for i, row in enumerate(self.rows.tolist()) if row in places]
        if not kept:
            return None
        rows = torch.tensor([places[int(self.rows[i])] for i in kept])
        starts, answers = ([column[i] + columns for i in kept] for column in (self.starts, self.answers))
        picks = torch.tensor(kept)
        factors = {
            name: Factors(*(factor[picks.to(factor.device)] for factor in stacked))
            for name, stacked in self.factors.items()
        }
        return RowBlocks(rows, starts, answers, factors)

    def _placed(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows (n,), starts and answers (n, 1) on a device; copied once for all modules and decoding steps."""
        if device not in self._on:
            starts, answers = (torch.tensor(columns)[:, None].to(device) for columns in (self.starts, self.answers))
            self._on[device] = self.rows.to(device), starts, answers
        return self._on[device]

    def apply(self, name: str, x: Tensor, y: Tensor, past: int) -> Tensor:
        """Add the deltas to a module's output.

        Rows without a block, and columns before a row's start, keep their values bit for bit. ``y`` is written in place
        unless autograd records.

        Args:
            name: the module.
            x: (B, T, in) its input.
            y: (B, T, out) its output.
            past: how many columns come before this call's first.

        Returns:
            (B, T, out).
        """
        columns = y.shape[1]
        first = max(0, min(self.starts) - past)
        if first >= columns:
            return y
        if torch.is_grad_enabled():
            y = y.clone()
        rows, starts, answers = self._placed(y.device)
        factors = self.factors[name]
        column = torch.arange(past + first, past + columns, device=y.device)
        position = column - answers if factors.p.shape[-1] else None  # (n, T')
        add = delta(x[rows, first:].to(factors.a.dtype), factors, position).to(y.dtype)
        if all(start - past <= first for start in self.starts):
            y[rows, first:] += add
            return y
        acts = column >= starts  # (n, T')
        old = y[rows, first:]
        y[rows, first:] = torch.where(acts[:, :, None], old + add, old)
        return y


def apply_all(blocks: Sequence[RowBlocks], name: str, x: Tensor, output: Any, past: int, rows: int) -> Any:
    """Add the deltas of blocks of several shapes to what a module returned.

    A whole feed-forward may return more than its output, which comes first. A module that is given the tokens of all
    rows as one row (B T, in) has them parted again.

    Args:
        blocks: the groups.
        name: the module.
        x: (B, T, in) or (B T, in) its input.
        output: what it returned: (B, T, out), (B T, out), or a tuple that begins with it.
        past: how many columns come before this call's first.
        rows: B.

    Returns:
        The output in the same form.
    """
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    y = first
    if y.dim() == 2:
        x, y = x.unflatten(0, (rows, -1)), y.unflatten(0, (rows, -1))
    for group in blocks:
        y = group.apply(name, x, y, past)
    y = y.reshape(first.shape)
    return y if isinstance(output, Tensor) else (y, *output[1:])
