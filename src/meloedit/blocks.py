"""BlockBank: the low-rank blocks of all edits, stacked in slabs, and the delta they add to a module's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .config import Reach

Block = dict[str, tuple[Tensor, Tensor]]
"""One edit's knowledge: per target module A (p, in) and B (out, p)."""


@dataclass(frozen=True)
class Site:
    """A target module as the bank sees it: its name, features, and what its activations are made of."""

    name: str
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device


def delta(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return (x A^T) B^T per row: Eq. 10's block term with scale 1 (alpha = p).

    Shapes: x (n, T, in), a (n, p, in), b (n, out, p) -> (n, T, out).
    """
    return torch.bmm(torch.bmm(x, a.transpose(1, 2)), b.transpose(1, 2))


@dataclass
class RowBlocks:
    """The blocks that some rows of a batch use, already gathered; all have one rank.

    Attributes:
        rows: (n,) row numbers in the batch, ascending.
        starts: per row the column of the whole sequence (cached part included) from which its block acts.
        factors: per module A (n, p, in) and B (n, out, p).
    """

    rows: Tensor
    starts: list[int]
    factors: Mapping[str, tuple[Tensor, Tensor]]
    _on: dict[torch.device, Tensor] = field(default_factory=dict)

    def repeated(self, fold: int) -> RowBlocks:
        """Return the blocks of a batch in which every row stands ``fold`` times."""
        rows = (self.rows[:, None] * fold + torch.arange(fold)).flatten()
        starts = [start for start in self.starts for _ in range(fold)]
        factors = {
            name: (a.repeat_interleave(fold, 0), b.repeat_interleave(fold, 0)) for name, (a, b) in self.factors.items()
        }
        return RowBlocks(rows, starts, factors)

    def apply(self, name: str, x: Tensor, y: Tensor, past: int) -> Tensor:
        """Return the module output ``y`` (B, T, out) with the deltas added, given its input ``x`` (B, T, in).

        Rows without a block, and columns before a row's start, keep their values bit for bit. ``y`` is written in place
        unless autograd records. ``past`` is how many columns lie before this call's first.
        """
        columns = y.shape[1]
        first = max(0, min(self.starts) - past)
        if first >= columns:
            return y
        if torch.is_grad_enabled():
            y = y.clone()
        rows = self._on.setdefault(y.device, self.rows.to(y.device))
        a, b = self.factors[name]
        add = delta(x[rows, first:].to(a.dtype), a, b).to(y.dtype)
        ragged = [start for start in self.starts if start - past > first]
        if not ragged:
            y[rows, first:] += add
            return y
        starts = torch.tensor(self.starts, device=y.device)
        acts = torch.arange(past + first, past + columns, device=y.device) >= starts[:, None]  # (n, T')
        old = y[rows, first:]
        y[rows, first:] = torch.where(acts[:, :, None], old + add, old)
        return y


class Slab:
    """Blocks of one rank: per site A (capacity, p, in) and B (capacity, out, p); rows are reused, capacity doubles.

    They lie in float16, as they are stored, and are what the site computes with once they are gathered.
    """

    def __init__(self, sites: Sequence[Site], rank: int, capacity: int = 8) -> None:
        self.rank = rank
        self.dtypes = {site.name: site.dtype for site in sites}
        self.tables = {
            site.name: (
                torch.empty(capacity, rank, site.inputs, dtype=torch.float16, device=site.device),
                torch.empty(capacity, site.outputs, rank, dtype=torch.float16, device=site.device),
            )
            for site in sites
        }
        self._free = list(range(capacity))[::-1]

    def add_all(self, blocks: Block) -> list[int]:
        """Copy n blocks in, each factor stacked (n, ...), and return their rows."""
        count = len(next(iter(blocks.values()))[0])
        while len(self._free) < count:
            self._grow()
        rows = [self._free.pop() for _ in range(count)]
        for name, pair in blocks.items():
            for table, new in zip(self.tables[name], pair, strict=True):
                table[rows] = new.to(table)
        return rows

    def remove(self, row: int) -> None:
        """Free a row."""
        self._free.append(row)

    def matrices(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a module's blocks as one wide pair, A (n p, in) and B (out, n p).

        Block t is rows t p to (t + 1) p - 1 of A and the same columns of B (arXiv 2312.11795, Eq. 7).
        """
        a, b = self.tables[name]
        own = self.dtypes[name]
        return a.flatten(0, 1).to(own), b.permute(1, 0, 2).flatten(1).to(own)

    def picked(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (n, p, in) and B (n, out, p) of some rows, in the dtype that the site computes in."""
        a, b = self.tables[name]
        return a[rows.to(a.device)].to(self.dtypes[name]), b[rows.to(b.device)].to(self.dtypes[name])

    def _grow(self) -> None:
        capacity = len(next(iter(self.tables.values()))[0])
        for name, (a, b) in self.tables.items():
            self.tables[name] = (_doubled(a), _doubled(b))
        self._free.extend(range(2 * capacity - 1, capacity - 1, -1))


def _doubled(table: Tensor) -> Tensor:
    """Return a table with room for as many rows again; what is not written to takes no memory yet."""
    larger = table.new_empty(2 * len(table), *table.shape[1:])
    larger[: len(table)] = table
    return larger


class BlockBank:
    """All blocks, by edit number; no fixed number of them.

    Args:
        sites: the target modules.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = tuple(sites)
        self._slabs: dict[int, Slab] = {}
        self._at: dict[int, tuple[int, int, Reach]] = {}
        self._reaching_all = 0

    def __len__(self) -> int:
        """Return how many blocks are held."""
        return len(self._at)

    def add(self, owner: int, block: Block, reach: Reach) -> None:
        """Store an edit's block; one already there is replaced."""
        self.add_all([owner], {name: (a[None], b[None]) for name, (a, b) in block.items()}, [reach])

    def add_all(self, owners: Sequence[int], blocks: Block, reaches: Sequence[Reach]) -> None:
        """Store blocks of one rank, each factor stacked: A (n, p, in) and B (n, out, p)."""
        self.remove(owners)
        rank = next(iter(blocks.values()))[0].shape[1]
        if rank not in self._slabs:
            self._slabs[rank] = Slab(self.sites, rank)
        for owner, row, reach in zip(owners, self._slabs[rank].add_all(blocks), reaches, strict=True):
            self._at[owner] = (rank, row, reach)
            self._reaching_all += reach == "all"

    def remove(self, owners: Sequence[int]) -> None:
        """Drop blocks; those that are not here are passed over."""
        for owner in owners:
            if owner in self._at:
                rank, row, reach = self._at.pop(owner)
                self._slabs[rank].remove(row)
                self._reaching_all -= reach == "all"

    @property
    def owners(self) -> set[int]:
        """Return the numbers of the edits whose blocks are held."""
        return set(self._at)

    def reaches_all(self) -> bool:
        """Return whether any block acts on every token of its prompt."""
        return self._reaching_all > 0

    def gather(self, owners: Sequence[int], acts_from: Sequence[int]) -> list[RowBlocks]:
        """Gather the blocks of a batch, one group per rank.

        Args:
            owners: per row the edit number, -1 for none.
            acts_from: per row the column from which a block of reach ``answer`` acts.
        """
        groups: dict[int, list[int]] = {}
        for row, owner in enumerate(owners):
            if owner >= 0:
                groups.setdefault(self._at[owner][0], []).append(row)
        gathered = []
        for rank, rows in groups.items():
            places = [self._at[owners[row]] for row in rows]
            picks = torch.tensor([place[1] for place in places])
            starts = [acts_from[row] if place[2] == "answer" else 0 for row, place in zip(rows, places, strict=True)]
            slab = self._slabs[rank]
            factors = {site.name: slab.picked(site.name, picks) for site in self.sites}
            gathered.append(RowBlocks(torch.tensor(rows), starts, factors))
        return gathered
