"""NeuronIndex: from a key to the edit whose scope it lies in, by dense exact search with a calibrated scope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..keys.similarity import Evidence, Listed, Similarity
from .scope import NearestCache, Scope

SAME_KEY = 1e-3
"""Distance below which the model does not tell two prompts apart."""

ROUNDING = 5e-5
"""Distance below which a key is another one taken again, in a batch of another shape: rounding moves it so far."""

SHORTLIST = 16
"""Candidates that the matmul hands to the exact comparison."""
MARGIN = 1e-5
"""Similarity by which a key must lie farther than the winner to be left out: several times what the matmul errs by."""


@dataclass(frozen=True)
class Hits:
    """What the index found for a batch of B keys (all on the CPU).

    Attributes:
        owner: (B,) edit number whose key is nearest and not kept quiet; -1 where there is none.
        distance: (B,) its distance; inf where there is none.
        quieted: (B,) number of an edit that lay nearer but was kept quiet by one of its quiet prompts; -1 where none.
        quieted_distance: (B,) its distance; inf where there is none.
        quiet_distance: (B,) the distance of the quiet prompt that keeps it so; inf where there is none.
    """

    owner: Tensor
    distance: Tensor
    quieted: Tensor
    quieted_distance: Tensor
    quiet_distance: Tensor


class NeuronIndex:
    """Keys, each owned by an edit (a number, greater for newer ones).

    This is the paper's "inner vector database" (Section 4.2).

    The nearest key decides between overlapping scopes; of equally near keys the newest. A quiet key keeps its own edit
    from firing on whatever lies at least as near to it as to the edit's key; it does not concern other edits.

    The scope is one distance for all edits, see ``Scope``.
    """

    def __init__(self, similarity: Similarity, device: torch.device | str = "cpu") -> None:
        self._by, size = similarity, similarity.size
        # A column is a key: with one query a matmul reads such a table at the speed of memory, one of rows at a third.
        self._keys = torch.zeros(size, 64, device=device)
        self._owner = torch.full((64,), -1, device=device)
        self._quiet = torch.zeros(64, dtype=torch.bool, device=device)
        self._rows: dict[int, list[int]] = {}
        self._used = 0
        self._names: Listed | None = None  # of the keys in use; made when next one is searched for
        self._changed = True
        self.calibrate(torch.zeros(0, size), false_activation=0.5, min_similarity=0.0)

    def __len__(self) -> int:
        """Return how many edits have keys here."""
        return len(self._rows)

    @property
    def numbers(self) -> int:
        """How many numbers the keys are made of."""
        return self._used * len(self._keys)

    # -- scope

    def calibrate(
        self,
        prompts: Tensor,
        false_activation: float,
        min_similarity: float,
        of: Tensor | None = None,
        lists: NearestCache | None = None,
    ) -> None:
        """Set the scope from the keys (n, k) of prompts that no edit should answer.

        Args:
            prompts: keys of the calibration prompts.
            false_activation: a, the stated share of such prompts that may fire.
            min_similarity: similarity below which nothing fires; decides while edits are few.
            of: (n,) the prompt that each key is of, where prompts have several; its largest similarity counts.
            lists: what was known of these prompts when other edits were here; what has changed since is taken in.
        """
        self._scope = Scope(self._by, prompts.to(self._keys), false_activation, min_similarity, of)
        if lists is not None:
            self._scope.restore(lists.near, lists.owner)
            stale = self._scope.remove([owner for owner in lists.held if owner not in self._rows])
            come = [row for owner, rows in self._rows.items() if owner not in lists.held for row in rows]
            if come:
                self._scope.add(*(part[come] for part in self._table))
            if len(stale) and self._used:
                self._scope.rescore(*self._table, stale)
        elif self._used:
            self._scope.rescore(*self._table)

    @property
    def lists(self) -> NearestCache:
        """What ``calibrate`` can start from again."""
        return NearestCache(*self._scope.lists, frozenset(self._rows))

    @property
    def similarity(self) -> float:
        """The similarity that a key must exceed to be in scope; inf with too few prompts for the stated rate."""
        return self._scope.similarity

    @property
    def calibrated(self) -> float:
        """The similarity that the calibration prompts alone set; ``similarity`` is this or the least one."""
        return self._scope.calibrated

    @property
    def threshold(self) -> float:
        """The distance below which a key is in scope: sqrt(2 - 2 s)."""
        return math.sqrt(max(0.0, 2 - 2 * self.similarity)) if self.similarity < math.inf else 0.0

    # -- contents

    def add(self, owner: int, keys: Tensor, quiet: Tensor | None = None) -> None:
        """Add an edit's keys (n, k) and the keys (m, k) of its quiet prompts; an edit already here is replaced."""
        self.add_all([owner], keys[None], keys[None, :0] if quiet is None else quiet[None])

    def add_all(self, owners: Sequence[int], keys: Tensor, quiet: Tensor, room: int = 0) -> None:
        """Add edits with as many keys each: keys (n, f, k) and those of quiet prompts (n, q, k), as ``add`` does.

        ``room`` is how many such edits there will be, if more are to come: the table is then made once.
        """
        self.remove(owners)
        each, count = keys.shape[1] + quiet.shape[1], len(owners) * (keys.shape[1] + quiet.shape[1])
        start, stop = self._used, self._used + count
        self._reserve(max(stop, start + room * each))
        self._keys[:, start:stop] = torch.cat([keys, quiet], 1).flatten(0, 1).T
        self._owner[start:stop] = torch.tensor(owners).repeat_interleave(each)
        self._quiet[start:stop] = (torch.arange(each) >= keys.shape[1]).repeat(len(owners))
        self._rows |= {owner: list(range(start + i * each, start + (i + 1) * each)) for i, owner in enumerate(owners)}
        self._used, self._changed = stop, True
        self._scope.add(*(part[stop - count :] for part in self._table))

    @property
    def _table(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is in use: keys (n, k), their owners, whether they are quiet."""
        return self._keys[:, : self._used].T, self._owner[: self._used], self._quiet[: self._used]

    def remove(self, owners: Sequence[int]) -> None:
        """Remove edits; those that are not here are passed over."""
        owners = [owner for owner in dict.fromkeys(owners) if owner in self._rows]
        self._changed |= bool(owners)
        for owner in owners:
            for row in sorted(self._rows.pop(owner), reverse=True):
                self._fill(row, self._used - 1)
                self._used -= 1
        if owners and len(stale := self._scope.remove(owners)) and self._used:
            self._scope.rescore(*self._table, stale)

    def _fill(self, hole: int, last: int) -> None:
        """Move the last row into a hole, so that the rows in use stay together."""
        if hole == last:
            return
        for table in (self._keys.T, self._owner, self._quiet):
            table[hole] = table[last]
        rows = self._rows[int(self._owner[hole])]
        rows[rows.index(last)] = hole

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._owner):
            return
        room = max(rows, 2 * len(self._owner)) + 16  # numbers a power of two apart would share a place in the caches
        for name in ("_keys", "_owner", "_quiet"):
            table = getattr(self, name)
            larger = table.new_empty(*table.shape[:-1], room)  # what is not written to takes no memory yet
            larger[..., : self._used] = table[..., : self._used]
            setattr(self, name, larger)

    def neighbours(self, owner: int) -> tuple[int, float, list[int]]:
        """Return the nearest other edit, its distance, and the edits whose keys lie in this one's scope.

        Without another edit: -1, inf, and none.
        """
        if len(self._rows) < 2:
            return -1, math.inf, []
        own = torch.tensor(self._rows[owner], device=self._keys.device)
        own = own[~self._quiet[own]]
        passed = self._quiet[: self._used] | (self._owner[: self._used] == owner)
        similarities = self._similarities(self._keys.T[own]).amax(0).masked_fill_(passed, -1.0)  # (n,)
        nearest = similarities.argmax()
        distance = self._by.distances(self._keys.T[own], self._keys[:, nearest].expand(len(own), 1, -1)).min()
        overlaps = self._owner[: self._used][similarities > self.similarity].unique()
        return int(self._owner[nearest]), float(distance), overlaps.tolist()

    def evidence(self, owner: int, queries: Tensor) -> tuple[Evidence, int, int]:
        """Return what makes an edit's similarity to the nearest of a prompt's keys (n, k), and the numbers of both."""
        own = torch.tensor(self._rows[owner], device=self._keys.device)
        keys, queries = self._keys.T[own[~self._quiet[own]]], queries.to(self._keys)
        distances = self._by.distances(queries, keys.expand(len(queries), -1, -1))
        query, key = divmod(int(distances.argmin()), len(keys))
        return self._by.evidence(queries[query], keys[key]), query, key

    # -- search

    def _similarities(self, queries: Tensor) -> Tensor:
        """Return the similarities (B, n) of queries to all keys in use, as a matmul has them."""
        keys = self._keys[:, : self._used].T
        if self._changed:
            self._names, self._changed = self._by.listed(keys, names=True), False
        found = self._names.mentioned_by(self._by.words(queries)) if self._names is not None else None
        return self._by.between(queries, keys, found)

    def search(self, queries: Tensor) -> Hits:
        """Find for each query (B, k) the edit with the nearest key, by direct float32 differences.

        A matmul shortlists, since it costs one pass over the keys; it errs in the fourth digit, so it does not decide.
        """
        count, queries = len(queries), queries.to(self._keys)
        none, far = torch.full((count,), -1), torch.full((count,), math.inf)
        found = [none, far, none.clone(), far.clone(), far.clone()]
        scores = self._similarities(queries)  # (B, n)
        rows, size = torch.arange(count if self._used else 0), SHORTLIST
        while len(rows):  # again, with more candidates, for the queries that these do not settle
            on = rows.to(queries.device)
            columns, settled = self._among(queries[on], scores[on], min(size, self._used))
            settled |= size >= self._used
            for whole, column in zip(found, columns, strict=True):
                whole[rows[settled]] = column[settled]
            rows, size = rows[~settled], 4 * size
        return Hits(*found)

    def _among(self, queries: Tensor, scores: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
        """Decide between the ``size`` keys of the greatest scores; return the columns of Hits, and which are settled.

        A query is settled when a free edit was found and the last candidate is too far to matter; quiet keys, or many
        equally near ones, can fill a short list.
        """
        top, rows = scores.topk(size, dim=1)  # (B, s)
        distance = self._by.distances(queries, self._keys.T[rows])
        distance = distance.masked_fill(distance < ROUNDING, 0.0)
        newest = self._owner[rows].argsort(dim=1, descending=True)  # equally near: the newest first
        order = newest.gather(1, distance.gather(1, newest).argsort(dim=1, stable=True))
        rows, distance = rows.gather(1, order), distance.gather(1, order)
        owner, quiet = self._owner[rows], self._quiet[rows]
        # held[b, i]: candidate i is an edit's key, and a quiet key of the same edit lies at least as near.
        at_least_as_near = distance[:, None, :] <= distance[:, :, None]
        held = (quiet[:, None, :] & (owner[:, None, :] == owner[:, :, None]) & at_least_as_near).any(2) & ~quiet
        free = ~quiet & ~held
        winner, best = _first(free, owner, distance)
        hushed, near = _first(held & (distance <= best[:, None]), owner, distance)
        by = distance.masked_fill(~(quiet & (owner == hushed[:, None])), math.inf).min(1).values
        near_enough_to_matter = top[:, -1] >= 1 - best.square() / 2 - MARGIN
        return [column.cpu() for column in (winner, best, hushed, near, by)], (
            (winner >= 0) & ~near_enough_to_matter
        ).cpu()


def _first(which: Tensor, owner: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return owner and distance of the first candidate of each row of ``which``; -1 and inf where there is none."""
    at, any_at_all = which.int().argmax(1, keepdim=True), which.any(1)
    return (
        torch.where(any_at_all, owner.gather(1, at)[:, 0], -1),
        torch.where(any_at_all, distance.gather(1, at)[:, 0], math.inf),
    )
