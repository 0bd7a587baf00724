"""WideBlocks: the blocks that act in a pass, side by side, in tables whose shapes and addresses never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError
from ...hooks.blocks import Factors
from ..edits.passes import Pass
from .shards import Answer, Shard


class Table(NamedTuple):
    """The wide factors of one module.

    Attributes:
        a: (W, in).
        b: (W, out).
        p: (K + 1, W); row 0 is zero.
        acted: (1,) on how many rows a block has acted so far.
    """

    a: Tensor
    b: Tensor
    p: Tensor
    acted: Tensor


class _Seat(NamedTuple):
    slot: int
    columns: list[int]
    start: int
    answer: int
    places: int


class WideBlocks:
    """Seats the blocks of requests, and says of each token of a pass which one acts on it.

    Args:
        shards: by module, the part of it that this rank has.
        tokens: how many tokens a pass has at most.
        requests: how many requests a pass has at most.
        rank: the greatest rank of a block.
        places: the greatest number K of answer positions of a block.
        size: numbers of a key layer's state.
        dtype: in which the modules compute.
        device: where.
    """

    def __init__(
        self, shards: Mapping[str, Shard], tokens: int, requests: int, rank: int, places: int, size: int,
        dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        width = requests * rank
        self.rank, self.places_at_most, self._shards = rank, places, dict(shards)
        with torch.inference_mode(False):
            self.states = torch.zeros(tokens, size, dtype=dtype, device=device)
            self.rows = torch.zeros(tokens, dtype=torch.int32, device=device)
            self.places = torch.zeros(tokens, dtype=torch.int32, device=device)
            self.owners = torch.full((width,), -1, dtype=torch.int32, device=device)
            self.tables = {
                name: Table(
                    torch.zeros(width, shard.shape[0], dtype=dtype, device=device),
                    torch.zeros(width, shard.shape[1], dtype=dtype, device=device),
                    torch.zeros(places + 1, width, dtype=dtype, device=device),
                    torch.zeros(1, dtype=torch.int64, device=device),
                )
                for name, shard in shards.items()
            }
        self._seats: dict[str, _Seat] = {}
        self._columns, self._slots = list(range(width))[::-1], list(range(1, requests + 1))[::-1]
        self._written = 0  # tokens whose row is not zero, at most

    @property
    def bytes(self) -> int:
        """How much memory the tables take."""
        tensors = [self.states, self.rows, self.places, self.owners]
        tensors += [tensor for table in self.tables.values() for tensor in table]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def __contains__(self, name: object) -> bool:
        """Return whether a request's block is seated."""
        return name in self._seats

    def seat(self, name: str, answer: Answer, keep: Sequence[str]) -> None:
        """Write a request's block into free columns; if there are none, into those of requests that are not running.

        Args:
            name: the request.
            answer: its block, whole.
            keep: the requests of the pass, whose seats stay.

        Raises:
            ModelError: if the block is larger than the tables were made for.
        """
        self.free([name])
        rank, places = next(iter(answer.factors.values())).p.shape[-2:]
        if rank > self.rank or places > self.places_at_most:
            raise ModelError(
                f"a block of rank {rank} and {places} places is larger than this server was started for (rank "
                f"{self.rank}, {self.places_at_most} places): start it anew"
            )
        if len(self._columns) < rank or not self._slots:
            self.free([other for other in self._seats if other not in set(keep)])
        if len(self._columns) < rank or not self._slots:
            raise ModelError(f"a pass has more than {len(self._seats)} blocks: more than vLLM's --max-num-seqs")
        slot, columns = self._slots.pop(), [self._columns.pop() for _ in range(rank)]
        for module, factors in answer.factors.items():
            self._write(module, columns, self._shards[module].cut(factors))
        self.owners[columns] = slot
        self._seats[name] = _Seat(slot, columns, answer.start, answer.answer, places)

    def _write(self, module: str, columns: list[int], factors: Factors) -> None:
        table, (a, b, p) = self.tables[module], factors
        table.a[columns] = a.to(table.a)
        table.b[columns] = b.t().to(table.b)
        if count := p.shape[1]:
            # answer positions from K - 1 on share a column; row 0 is for tokens before the answer
            spread = torch.arange(self.places_at_most, device=p.device).clamp(max=count - 1)
            table.p[1:, columns] = p[:, spread].t().to(table.p)
        else:
            table.p[:, columns] = 0

    def free(self, names: Sequence[str] | set[str]) -> None:
        """Give up the seats of requests; those that have none are passed over."""
        for name in names:
            if (seat := self._seats.pop(name, None)) is not None:
                self.owners[seat.columns] = -1
                self._columns += seat.columns
                self._slots.append(seat.slot)

    def clear(self) -> None:
        """Give up all seats, and let no block act: those of requests that still run are forgotten, too."""
        self.free(list(self._seats))
        self.rows.zero_()
        self._written = 0

    def rows_of(self, one: Pass) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the slot (T,) and the column of P (T,) for each token of a pass; ``None`` if no block acts in it."""
        seats = [self._seats.get(name, _NONE) for name in one.names]
        slots, starts, answers, places = np.array([(s.slot, s.start, s.answer, s.places) for s in seats], np.int32).T
        if not (slots * (one.ends > starts)).any():
            return None
        counts = np.diff(one.begin)
        slots, starts, answers, places = (np.repeat(each, counts) for each in (slots, starts, answers, places))
        position = np.arange(one.tokens) + np.repeat(one.past - one.begin[:-1], counts)
        rows = np.where(position >= starts, slots, 0)
        column = np.clip(position - answers, -1, places - 1) + 1
        return rows.astype(np.int32), column.astype(np.int32)

    def write(self, one: Pass, rows: Tensor, places: Tensor) -> None:
        """Write for each token of a pass which block acts on it, and at which place; padding has none.

        Args:
            one: the pass.
            rows: (N,) where to write the slots: this object's, or what a compiler has put in its stead.
            places: (N,) where to write the columns of P, likewise.
        """
        found = self.rows_of(one)
        if found is None and not self._written:
            return
        rows.zero_()
        places.zero_()
        self._written = 0
        if found is not None:
            self._written = one.tokens
            rows[: one.tokens].copy_(torch.from_numpy(found[0]))
            places[: one.tokens].copy_(torch.from_numpy(found[1]))


_NONE = _Seat(0, [], 0, 0, 0)
