"""The bank that stores the blocks of all edits in memory, and gathers those that a batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..types import Reach
from .blocks import Block, Factors, RowBlocks, Site


class Shape(NamedTuple):
    """What blocks that are stored together have in common: the rank, and the number of answer positions K."""

    rank: int
    positions: int


class Slab:
    """Blocks of one shape, stacked: per module a (capacity, rank, in), b (capacity, out, rank), p (capacity, rank, K).

    Side by side they are the two wide matrices of arXiv 2312.11795, Eq. 7: block t is rows t rank to (t + 1) rank - 1
    of A (capacity rank, in), and the same columns of B (out, capacity rank).

    Rows are reused, and capacity doubles. The tables are in float16, as blocks are stored; gathered blocks get the
    dtype that their module computes in.
    """

    def __init__(self, sites: Sequence[Site], shape: Shape, capacity: int = 8) -> None:
        self.rank = shape.rank
        self.dtypes = {site.name: site.dtype for site in sites}

        def table(site: Site, *size: int) -> Tensor:
            return torch.empty(capacity, *size, dtype=torch.float16, device=site.device)

        self.tables = {
            site.name: Factors(
                table(site, shape.rank, site.inputs),
                table(site, site.outputs, shape.rank),
                table(site, shape.rank, shape.positions),
            )
            for site in sites
        }
        self._free = list(range(capacity))[::-1]

    def add_all(self, blocks: Block) -> list[int]:
        """Copy n stacked blocks in, and return their rows."""
        count = len(next(iter(blocks.values())).a)
        self.reserve(count)
        rows = [self._free.pop() for _ in range(count)]
        for name, factors in blocks.items():
            for table, new in zip(self.tables[name], factors, strict=True):
                table[rows] = new.to(table)
        return rows

    def remove(self, row: int) -> None:
        """Free a row."""
        self._free.append(row)

    def gather(self, name: str, rows: Tensor) -> Factors:
        """Return the factors (n, ...) of n rows at a module, in the dtype that it computes in."""
        return Factors(*(table[rows.to(table.device)].to(self.dtypes[name]) for table in self.tables[name]))

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more rows."""
        if count <= len(self._free):
            return
        capacity = len(next(iter(self.tables.values())).a)
        larger = max(2 * capacity, capacity + count - len(self._free))
        for name, factors in self.tables.items():
            self.tables[name] = Factors(*(_with_room(table, larger) for table in factors))
        self._free.extend(range(larger - 1, capacity - 1, -1))


def _with_room(table: Tensor, rows: int) -> Tensor:
    """Return a table of ``rows`` rows that begins with these; rows that nothing was written to take no memory yet."""
    larger = table.new_empty(rows, *table.shape[1:])
    larger[: len(table)] = table
    return larger


class BlockBank:
    """All blocks, by the number of the stored record that holds each; there is no fixed number of them.

    Args:
        sites: the target modules.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = tuple(sites)
        self._slabs: dict[Shape, Slab] = {}
        self._at: dict[int, tuple[Shape, int, Reach]] = {}
        self._reaching_all = 0

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._at)

    def add(self, owner: int, block: Block, reach: Reach) -> None:
        """Store an edit's block, in the place of its former one."""
        stack = {name: Factors(*(factor[None] for factor in factors)) for name, factors in block.items()}
        self.add_all([owner], stack, [reach])

    def add_all(self, owners: Sequence[int], blocks: Block, reaches: Sequence[Reach], room: int = 0) -> None:
        """Store n blocks of one shape.

        Args:
            owners: their edits' numbers.
            blocks: the blocks, stacked (n, ...).
            reaches: the reach that each was trained with.
            room: how many blocks of this shape will come, these included, so that their table grows only once.
        """
        self.remove(owners)
        p = blocks[self.sites[0].name].p
        shape = Shape(p.shape[1], p.shape[2])
        if shape not in self._slabs:
            self._slabs[shape] = Slab(self.sites, shape)
        self._slabs[shape].reserve(room)
        for owner, row, reach in zip(owners, self._slabs[shape].add_all(blocks), reaches, strict=True):
            self._at[owner] = (shape, row, reach)
            self._reaching_all += reach == "all"

    def clear(self) -> None:
        """Drop all blocks, whatever a change that was stopped has left."""
        self._slabs, self._at, self._reaching_all = {}, {}, 0

    def remove(self, owners: Sequence[int]) -> None:
        """Drop the blocks of these edits; an edit without one is passed over."""
        for owner in owners:
            if owner in self._at:
                shape, row, reach = self._at.pop(owner)
                self._slabs[shape].remove(row)
                self._reaching_all -= reach == "all"

    @property
    def owners(self) -> set[int]:
        """The numbers of the edits that have a block."""
        return set(self._at)

    @property
    def shapes(self) -> set[Shape]:
        """The shapes of the blocks."""
        return {shape for shape, _, _ in self._at.values()}

    def reaches_all(self) -> bool:
        """Return whether any block acts on every token of its prompt."""
        return self._reaching_all > 0

    def gather(
        self, owners: Sequence[int], acts_from: Sequence[int], answers: Sequence[int] | None = None
    ) -> list[RowBlocks]:
        """Gather the blocks of a batch, one group per shape.

        Args:
            owners: per row the number of its block, -1 for none.
            acts_from: per row the column from which a block of reach ``answer`` acts.
            answers: per row the column of the token that predicts the first one of the target; ``None``: the same.
        """
        groups: dict[Shape, list[int]] = {}
        for row, owner in enumerate(owners):
            if owner >= 0:
                groups.setdefault(self._at[owner][0], []).append(row)
        gathered = []
        for shape, rows in groups.items():
            _, slab_rows, reaches = zip(*(self._at[owners[row]] for row in rows), strict=True)
            starts = [acts_from[row] if reach == "answer" else 0 for row, reach in zip(rows, reaches, strict=True)]
            places = [(acts_from if answers is None else answers)[row] for row in rows]
            picks, slab = torch.tensor(slab_rows), self._slabs[shape]
            factors = {site.name: slab.gather(site.name, picks) for site in self.sites}
            gathered.append(RowBlocks(torch.tensor(rows), starts, places, factors))
        return gathered
