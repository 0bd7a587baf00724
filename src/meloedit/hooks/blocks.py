"""BlockBank: the low-rank blocks of all edits, stacked in slabs, and the delta they add to a module's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..types import Reach

Block = dict[str, tuple[Tensor, Tensor]]
"""One edit's knowledge: per target module A (p, in + K) and B (out, p)."""


Shape = tuple[int, int]
"""What blocks that lie together have in common: rank p and number of places K."""


@dataclass(frozen=True)
class Site:
    """A target module as the bank sees it: its name, features, and what its activations are made of.

    Attributes:
        size: mean over tokens of the input's L1 norm, of a few tokens: how much more a step of Adam moves A x than A.
    """

    name: str
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device
    size: float = 1.0


def delta(x: Tensor, a: Tensor, b: Tensor, place: Tensor | None = None) -> Tensor:
    """Return ([x, e_place] A^T) B^T per row: Eq. 10's block term with scale 1 (alpha = p), and places of the answer.

    Beside x, A reads at which token of the answer it stands, as a unit vector of K numbers: the last K columns of A.
    So a block can tell where its answer begins from where it ends, however the prompt is worded. K = 0 is Eq. 10.

    Shapes: x (n, T, in), a (n, p, in + K), b (n, out, p), place (n, T) -> (n, T, out). ``place`` is 0 at the token that
    gives the answer's first one, negative before it; K - 1 stands for all later ones.
    """
    inputs = x.shape[2]
    low = torch.bmm(x, a[:, :, :inputs].transpose(1, 2))
    if place is not None and a.shape[2] > inputs:
        by_place = a[:, :, inputs:].transpose(1, 2)  # (n, K, p)
        number = place.clamp(0, by_place.shape[1] - 1)[:, :, None].expand(-1, -1, low.shape[2])
        low = low + by_place.gather(1, number) * (place >= 0)[:, :, None]
    return torch.bmm(low, b.transpose(1, 2))


@dataclass
class RowBlocks:
    """The blocks that some rows of a batch use, already gathered; all have one rank.

    Attributes:
        rows: (n,) row numbers in the batch, ascending.
        starts: per row the column of the whole sequence (cached part included) from which its block acts.
        answers: per row the column of the token that gives the first one of the answer.
        factors: per module A (n, p, in + K) and B (n, out, p).
    """

    rows: Tensor
    starts: list[int]
    answers: list[int]
    factors: Mapping[str, tuple[Tensor, Tensor]]
    _on: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def repeated(self, fold: int) -> RowBlocks:
        """Return the blocks of a batch in which every row stands ``fold`` times."""
        rows = (self.rows[:, None] * fold + torch.arange(fold)).flatten()
        starts, answers = ([column for column in own for _ in range(fold)] for own in (self.starts, self.answers))
        factors = {
            name: (a.repeat_interleave(fold, 0), b.repeat_interleave(fold, 0)) for name, (a, b) in self.factors.items()
        }
        return RowBlocks(rows, starts, answers, factors)

    def _placed(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows (n,), starts and answers (n, 1) on a device; copied once for all modules and decoding steps."""
        if device not in self._on:
            starts, answers = (torch.tensor(own)[:, None].to(device) for own in (self.starts, self.answers))
            self._on[device] = self.rows.to(device), starts, answers
        return self._on[device]

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
        rows, starts, answers = self._placed(y.device)
        a, b = self.factors[name]
        column = torch.arange(past + first, past + columns, device=y.device)
        place = None
        if a.shape[2] > x.shape[2]:
            place = column - answers  # (n, T')
        add = delta(x[rows, first:].to(a.dtype), a, b, place).to(y.dtype)
        ragged = [start for start in self.starts if start - past > first]
        if not ragged:
            y[rows, first:] += add
            return y
        acts = column >= starts  # (n, T')
        old = y[rows, first:]
        y[rows, first:] = torch.where(acts[:, :, None], old + add, old)
        return y


class Slab:
    """Blocks of one shape: per site A (capacity, p, in + K) and B (capacity, out, p).

    Side by side they are the two wide matrices of arXiv 2312.11795, Eq. 7: block t is rows t p to (t + 1) p - 1 of A
    (capacity p, in), and the same columns of B (out, capacity p).

    Rows are reused, and capacity doubles. They lie in float16, as they are stored, and are what the site computes with
    once they are gathered.
    """

    def __init__(self, sites: Sequence[Site], rank: int, places: int = 0, capacity: int = 8) -> None:
        self.rank = rank
        self.dtypes = {site.name: site.dtype for site in sites}
        self.tables = {
            site.name: (
                torch.empty(capacity, rank, site.inputs + places, dtype=torch.float16, device=site.device),
                torch.empty(capacity, site.outputs, rank, dtype=torch.float16, device=site.device),
            )
            for site in sites
        }
        self._free = list(range(capacity))[::-1]

    def add_all(self, blocks: Block) -> list[int]:
        """Copy n blocks in, each factor stacked (n, ...), and return their rows."""
        count = len(next(iter(blocks.values()))[0])
        self.reserve(count)
        rows = [self._free.pop() for _ in range(count)]
        for name, pair in blocks.items():
            for table, new in zip(self.tables[name], pair, strict=True):
                table[rows] = new.to(table)
        return rows

    def remove(self, row: int) -> None:
        """Free a row."""
        self._free.append(row)

    def picked(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (n, p, in) and B (n, out, p) of some rows, in the dtype that the site computes in."""
        a, b = self.tables[name]
        return a[rows.to(a.device)].to(self.dtypes[name]), b[rows.to(b.device)].to(self.dtypes[name])

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more rows."""
        if count <= len(self._free):
            return
        capacity = len(next(iter(self.tables.values()))[0])
        larger = max(2 * capacity, capacity + count - len(self._free))
        for name, (a, b) in self.tables.items():
            self.tables[name] = (_with_room(a, larger), _with_room(b, larger))
        self._free.extend(range(larger - 1, capacity - 1, -1))


def _with_room(table: Tensor, rows: int) -> Tensor:
    """Return a table of so many rows that begins with these; what is not written to takes no memory yet."""
    larger = table.new_empty(rows, *table.shape[1:])
    larger[: len(table)] = table
    return larger


class BlockBank:
    """All blocks, by edit number; no fixed number of them.

    Args:
        sites: the target modules.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = tuple(sites)
        self._slabs: dict[Shape, Slab] = {}
        self._at: dict[int, tuple[Shape, int, Reach]] = {}
        self._reaching_all = 0

    def __len__(self) -> int:
        """Return how many blocks are held."""
        return len(self._at)

    def add(self, owner: int, block: Block, reach: Reach) -> None:
        """Store an edit's block; one already there is replaced."""
        self.add_all([owner], {name: (a[None], b[None]) for name, (a, b) in block.items()}, [reach])

    def add_all(self, owners: Sequence[int], blocks: Block, reaches: Sequence[Reach], room: int = 0) -> None:
        """Store blocks of one shape, each factor stacked: A (n, p, in + K) and B (n, out, p).

        ``room`` is how many of them there will be, if more are to come: their table is then made once.
        """
        self.remove(owners)
        site = self.sites[0]
        rank, width = blocks[site.name][0].shape[1:]
        shape = rank, width - site.inputs
        if shape not in self._slabs:
            self._slabs[shape] = Slab(self.sites, *shape)
        self._slabs[shape].reserve(room)
        for owner, row, reach in zip(owners, self._slabs[shape].add_all(blocks), reaches, strict=True):
            self._at[owner] = (shape, row, reach)
            self._reaching_all += reach == "all"

    def remove(self, owners: Sequence[int]) -> None:
        """Drop blocks; those that are not here are passed over."""
        for owner in owners:
            if owner in self._at:
                shape, row, reach = self._at.pop(owner)
                self._slabs[shape].remove(row)
                self._reaching_all -= reach == "all"

    @property
    def owners(self) -> set[int]:
        """Return the numbers of the edits whose blocks are held."""
        return set(self._at)

    def reaches_all(self) -> bool:
        """Return whether any block acts on every token of its prompt."""
        return self._reaching_all > 0

    def gather(self, owners: Sequence[int], acts_from: Sequence[int]) -> list[RowBlocks]:
        """Gather the blocks of a batch, one group per shape.

        Args:
            owners: per row the edit number, -1 for none.
            acts_from: per row the column of the token that gives the answer's first, from which a block of reach
                ``answer`` acts.
        """
        groups: dict[Shape, list[int]] = {}
        for row, owner in enumerate(owners):
            if owner >= 0:
                groups.setdefault(self._at[owner][0], []).append(row)
        gathered = []
        for shape, rows in groups.items():
            places = [self._at[owners[row]] for row in rows]
            picks = torch.tensor([place[1] for place in places])
            starts = [acts_from[row] if place[2] == "answer" else 0 for row, place in zip(rows, places, strict=True)]
            answers = [acts_from[row] for row in rows]
            slab = self._slabs[shape]
            factors = {site.name: slab.picked(site.name, picks) for site in self.sites}
            gathered.append(RowBlocks(torch.tensor(rows), starts, answers, factors))
        return gathered
