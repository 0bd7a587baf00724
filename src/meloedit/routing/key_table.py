"""KeyTable: the keys of all edits, in tables that grow by doubling and stay without holes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..keys.keys import Keys, KeyShape


class OwnedKeys(NamedTuple):
    """Keys in use.

    Attributes:
        keys: (n,) the keys.
        owner: (n,) the number of the edit that each belongs to.
        quiet: (n,) true for keys of quiet prompts.
    """

    keys: Keys
    owner: Tensor
    quiet: Tensor


class KeyTable:
    """Rows of keys, each with its owner; content and relation are stored by column.

    With one query a matmul reads a table of columns at the speed of memory, one of rows at a third of it.
    """

    def __init__(self, shape: KeyShape, device: torch.device | str = "cpu", rows: int = 64) -> None:
        self.shape = shape
        self.used = 0
        codes = torch.zeros(rows, shape.words, dtype=torch.int32, device=device)
        self._tables: dict[str, Tensor] = {
            "content": torch.zeros(shape.content, rows, device=device, dtype=torch.float32).T,
            "relation": torch.zeros(shape.relation, rows, device=device, dtype=torch.float32).T,
            "word_codes": codes,
            "word_shares": torch.zeros(rows, shape.words, device=device, dtype=torch.float32),
            "owner": torch.full((rows,), -1, device=device),
            "quiet": torch.zeros(rows, dtype=torch.bool, device=device),
        }

    def __len__(self) -> int:
        return self.used

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self._tables["owner"].device

    @property
    def rows(self) -> OwnedKeys:
        """The rows in use, as views."""
        *keys, owner, quiet = (table[: self.used] for table in self._tables.values())
        return OwnedKeys(Keys(*keys), owner, quiet)

    def append(self, keys: Keys, owner: Tensor, quiet: Tensor, room: int = 0) -> OwnedKeys:
        """Append rows and return them; ``room`` is how many will have come in the end, if more are to come."""
        start, stop = self.used, self.used + len(keys)
        self._reserve(max(stop, start + room))
        for table, new in zip(self._tables.values(), (*keys, owner, quiet), strict=True):
            table[start:stop] = new.to(table)
        self.used = stop
        everything = self.rows
        return OwnedKeys(everything.keys[start:stop], everything.owner[start:stop], everything.quiet[start:stop])

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        for table in self._tables.values():
            table[target] = table[source]

    def _reserve(self, rows: int) -> None:
        capacity = len(self._tables["owner"])
        if rows <= capacity:
            return
        capacity = max(rows, 2 * capacity) + 16  # columns a power of two apart would share a place in the caches
        for name, table in self._tables.items():
            # what is not written to takes no memory yet
            larger = (
                table.new_empty(table.shape[1], capacity).T
                if name in ("content", "relation")
                else table.new_empty(capacity, *table.shape[1:])
            )
            larger[: self.used] = table[: self.used]
            self._tables[name] = larger


def nearest_of_owner(owner: Tensor, distance: Tensor) -> Tensor:
    """Return for each of the candidates (B, s) the least distance that a candidate of the same row and owner has.

    Thousands of edits may share a quiet prompt: no table of pairs of candidates is made.
    """
    numbers, which = owner.unique(return_inverse=True)  # (u,), (B, s)
    least = distance.new_full((len(owner), len(numbers)), math.inf)
    return least.scatter_reduce(1, which, distance, "amin").gather(1, which)


def first(which: Tensor, owner: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return owner and distance of the first candidate of each row of ``which``; -1 and inf where there is none."""
    at, exists = which.int().argmax(1, keepdim=True), which.any(1)
    return (
        torch.where(exists, owner.gather(1, at)[:, 0], -1),
        torch.where(exists, distance.gather(1, at)[:, 0], math.inf),
    )


def first_edits(free: Tensor, owner: Tensor, distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return owners and distances (B, count) of the first edits of each row of ``free`` (B, s), each edit once."""
    owners, nearest = [], []
    for _ in range(count):
        found, near = first(free, owner, distance)
        owners.append(found)
        nearest.append(near)
        free = free & (owner != found[:, None])
    return torch.stack(owners, 1), torch.stack(nearest, 1)
