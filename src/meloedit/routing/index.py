"""NeuronIndex: from a prompt's key to the edits whose keys lie nearest, by exact dense search with one scope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..keys.keys import Keys, KeyShape
from ..keys.similarity import Evidence, WordIndex, distances, evidence, similarities, word_index
from .key_table import KeyTable, OwnedKeys, first, first_edits, nearest_of_owner
from .scope import NearestCache, Scope

if TYPE_CHECKING:
    from .judged_scope import JudgedScope

SAME_KEY = 1e-3
"""Distance below which the model does not tell two prompts apart."""
KEYS_AT_ONCE = 64
"""Keys of an edit that are compared with all others at once."""
ROUNDING = 5e-5
"""Distance below which two keys are of one prompt, computed in batches of other shapes: rounding moves a key so far."""
SHORTLIST = 16
"""Candidates that the matmul hands to the exact comparison."""
MARGIN = 1e-5
"""Safety margin when dropping candidates, as a similarity: several times the matmul's error."""


@dataclass(frozen=True)
class Candidates:
    """The edits that the index proposes for each of B keys, nearest first; all on the CPU.

    Attributes:
        owner: (B, k) numbers of the edits with the nearest keys, among edits that none of their quiet prompts
            suppresses; -1 where there are fewer.
        distance: (B, k) the distance of each one's nearest key; inf where there is none.
        suppressed: (B,) an edit that lies nearer than all these, but not nearer than one of its own quiet prompts; -1
            where there is none.
        suppressed_distance: (B,) the distance of its nearest key; inf where there is none.
        quiet_distance: (B,) the distance of the quiet prompt that suppresses it; inf where there is none.
    """

    owner: Tensor
    distance: Tensor
    suppressed: Tensor
    suppressed_distance: Tensor
    quiet_distance: Tensor


class NeuronIndex:
    """Keys, each owned by an edit (a number, greater for newer ones).

    In the default mode it takes the place of the paper's "inner vector database" (Section 4.2).

    The nearest key decides between overlapping scopes; of equally near keys the newest. A quiet key keeps its own edit
    from firing on whatever lies at least as near to it as to the edit's key; other edits do not heed it.

    The scope is one distance for all edits, see ``Scope``.
    """

    def __init__(self, shape: KeyShape, device: torch.device | str = "cpu") -> None:
        self._table = KeyTable(shape, device)
        self._rows_of: dict[int, list[int]] = {}
        self._names: WordIndex | None = None  # of the keys in use; made at the next search
        self._changed = True
        self.set_scope(Keys.empty(shape), false_activation=0.5, min_similarity=0.0)

    def __len__(self) -> int:
        """Return how many edits have keys here."""
        return len(self._rows_of)

    def __repr__(self) -> str:
        return f"NeuronIndex({len(self)} edits, {len(self._table)} keys, threshold {self.threshold:.3f})"

    @property
    def shape(self) -> KeyShape:
        """How many numbers the parts of a key have."""
        return self._table.shape

    @property
    def numbers(self) -> int:
        """How many numbers the keys are made of."""
        return len(self._table) * self._table.shape.size

    # -- scope

    def set_scope(
        self,
        prompts: Keys,
        false_activation: float,
        min_similarity: float,
        prompt_of: Tensor | None = None,
        cache: NearestCache | None = None,
        short: Tensor | None = None,
    ) -> None:
        """Set the scope from the keys (n,) of prompts that no edit should answer.

        Args:
            prompts: keys of the calibration prompts.
            false_activation: a, the stated share of such prompts that may fire.
            min_similarity: similarity below which nothing fires; decides while edits are few.
            prompt_of: (n,) the prompt of each key, where prompts have several; the largest similarity counts.
            cache: the nearest keys of these prompts among other edits; only what changed since is compared.
            short: (n,) of each key whether its prompt is short, see ``Scope``.
        """
        self._scope = Scope(prompts.to(self._table.device), false_activation, min_similarity, prompt_of, short)
        if cache is not None:
            self._scope.restore(cache)
            stale = self._scope.remove([owner for owner in cache.owners if owner not in self._rows_of])
            new = [row for owner, rows in self._rows_of.items() if owner not in cache.owners for row in rows]
            if new:
                keys, owner, quiet = self._table.rows
                self._scope.add(OwnedKeys(keys[new], owner[new], quiet[new]))
            if len(stale) and len(self._table):
                self._scope.rescore(self._table.rows, stale)
        elif len(self._table):
            self._scope.rescore(self._table.rows)

    def judge_scope(self, judged: JudgedScope) -> None:
        """Bring the scores of calibration prompts in step with the keys that are here."""
        judged.follow(self._scope)

    @property
    def nearest_cache(self) -> NearestCache:
        """What ``set_scope`` can start from when the store is opened again."""
        return self._scope.cache(frozenset(self._rows_of))

    @property
    def similarity(self) -> float:
        """The similarity that a key must exceed to be in scope; inf with too few prompts for the stated rate."""
        return self._scope.similarity

    @property
    def calibrated(self) -> float:
        """The similarity that the calibration prompts alone set; ``similarity`` is this or ``min_similarity``."""
        return self._scope.calibrated

    @property
    def threshold(self) -> float:
        """The distance below which a key is in scope: sqrt(2 - 2 s)."""
        return _distance(self.similarity)

    @property
    def short_threshold(self) -> float:
        """The distance below which an edit is proposed for a short prompt, where a judge decides."""
        return _distance(self._scope.short_similarity)

    # -- contents

    def add(self, owner: int, keys: Keys, quiet: Keys | None = None) -> None:
        """Add an edit's keys (n,) and those of its quiet prompts; an edit that is here already is replaced."""
        quiet = keys[:0] if quiet is None else quiet
        is_quiet = torch.arange(len(keys) + len(quiet)) >= len(keys)
        self.add_all([owner], Keys.cat([keys, quiet])[None], is_quiet[None])

    def add_all(self, owners: Sequence[int], keys: Keys, quiet: Tensor, room: int = 0) -> None:
        """Add n edits with f keys each, (n, f) with ``quiet`` (n, f) true for those of quiet prompts, as ``add`` does.

        ``room`` is how many such edits there will be, if more are to come: the table is then made once.
        """
        self.remove(owners)
        each, start = quiet.shape[1], len(self._table)
        flat = Keys(*(part.flatten(0, 1) for part in keys))
        owner = torch.tensor(owners).repeat_interleave(each)
        added = self._table.append(flat, owner, quiet.flatten(), room * each)
        self._rows_of |= {
            owner: list(range(start + i * each, start + (i + 1) * each)) for i, owner in enumerate(owners)
        }
        self._changed = True
        self._scope.add(added)

    def add_unquiet(self, owners: Sequence[int], keys: Keys, quiet: Tensor, room: int = 0) -> None:
        """Add n edits as ``add_all`` does, without the keys of their quiet prompts."""
        for mask in quiet.unique(dim=0):
            rows = (quiet == mask).all(1).nonzero()[:, 0]
            part = Keys(*(column[rows][:, ~mask] for column in keys))
            self.add_all([owners[row] for row in rows.tolist()], part, quiet[rows][:, ~mask], room)

    def remove(self, owners: Sequence[int]) -> None:
        """Remove edits; those that are not here are ignored."""
        owners = [owner for owner in dict.fromkeys(owners) if owner in self._rows_of]
        self._changed |= bool(owners)
        for owner in owners:
            for row in sorted(self._rows_of.pop(owner), reverse=True):
                self._fill(row, len(self._table) - 1)
                self._table.used -= 1
        if owners and len(stale := self._scope.remove(owners)) and len(self._table):
            self._scope.rescore(self._table.rows, stale)

    def _fill(self, hole: int, last: int) -> None:
        """Move the last row into a hole, so that the rows in use stay together."""
        if hole == last:
            return
        self._table.move(last, hole)
        rows = self._rows_of[int(self._table.rows.owner[hole])]
        rows[rows.index(last)] = hole

    def neighbours(self, owner: int) -> tuple[int, float, list[int]]:
        """Return the nearest other edit, its distance, and the edits whose keys lie in this one's scope, nearest first.

        Without another edit: -1, inf, and none.
        """
        if len(self._rows_of) < 2:
            return -1, math.inf, []
        keys, owners, quiet = self._table.rows
        queries = self._keys_of(owner)
        excluded = quiet | (owners == owner)
        starts = range(0, len(queries), KEYS_AT_ONCE)
        parts = [self._similarities(queries[start : start + KEYS_AT_ONCE]).amax(0) for start in starts]
        similarity = torch.stack(parts).amax(0).masked_fill_(excluded, -1.0)  # (n,)
        nearest = similarity.argmax()
        distance = distances(queries, keys[nearest][None].expand(len(queries))).min()
        order = similarity.argsort(descending=True)[: int((similarity > self.similarity).sum())]
        return int(owners[nearest]), float(distance), list(dict.fromkeys(owners[order].tolist()))

    def evidence(self, owner: int, queries: Keys) -> tuple[Evidence, int, int]:
        """Return the terms of an edit's similarity to the nearest of a prompt's keys (n,), and the numbers of both."""
        keys, queries = self._keys_of(owner), queries.to(self._table.device)
        query, key = divmod(int(distances(queries, keys.expand(len(queries))).argmin()), len(keys))
        return evidence(queries[[query]], keys[[key]]), query, key

    def _keys_of(self, owner: int) -> Keys:
        """Return an edit's keys, without those of its quiet prompts."""
        keys, _, quiet = self._table.rows
        rows = torch.tensor(self._rows_of[owner], device=quiet.device)
        return keys[rows[~quiet[rows]]]

    # -- search

    def _similarities(self, queries: Keys) -> Tensor:
        """Return the similarities (B, n) of queries to all keys in use, as a matmul has them."""
        keys = self._table.rows.keys
        if self._changed:
            self._names, self._changed = word_index(keys, names=True), False
        return similarities(queries, keys, self._names.mentioned_by(queries) if self._names is not None else None)

    def search(self, queries: Keys, count: int = 1) -> Candidates:
        """Find for each query (B,) the ``count`` edits with the nearest keys, by direct float32 differences.

        A matmul shortlists, since it costs one pass over the keys; it errs in the fourth digit, so it does not decide.
        """
        queries, used = queries.to(self._table.device), len(self._table)
        owner = torch.full((len(queries), count), -1)
        distance = torch.full((len(queries), count), math.inf, dtype=torch.float32)
        found = [owner, distance, owner[:, 0].clone(), distance[:, 0].clone(), distance[:, 0].clone()]
        scores = self._similarities(queries)  # (B, n)
        rows, size = torch.arange(len(queries) if used else 0), SHORTLIST
        while len(rows):  # again, with a longer shortlist, for the queries that this one does not settle
            on = rows.to(scores.device)
            columns, settled = self._among(queries[on], scores[on], min(size, used), count)
            settled |= size >= used
            for whole, column in zip(found, columns, strict=True):
                whole[rows[settled]] = column[settled]
            rows, size = rows[~settled], 4 * size
        return Candidates(*found)

    def _among(self, queries: Keys, scores: Tensor, size: int, count: int) -> tuple[list[Tensor], Tensor]:
        """Decide between the ``size`` keys of the greatest scores; return Candidates' columns, and what is settled.

        A query is settled when ``count`` edits were found and the last key of the shortlist is too far to matter; quiet
        keys, several keys of one edit, or many equally near ones, can fill a short list.
        """
        keys, owners, is_quiet = self._table.rows
        top, rows = scores.topk(size, dim=1)  # (B, s)
        distance = distances(queries, keys[rows])
        distance = distance.masked_fill(distance < ROUNDING, 0.0)
        newest = owners[rows].argsort(dim=1, descending=True)  # equally near: the newest first
        order = newest.gather(1, distance.gather(1, newest).argsort(dim=1, stable=True))
        rows, distance = rows.gather(1, order), distance.gather(1, order)
        owner, quiet = owners[rows], is_quiet[rows]
        # suppressed[b, i]: candidate i is an edit's key, and a quiet key of the same edit lies at least as near.
        suppressed = ~quiet & (nearest_of_owner(owner, distance.masked_fill(~quiet, math.inf)) <= distance)
        free = ~quiet & ~suppressed
        winners, best = first_edits(free, owner, distance, count)
        suppressed_owner, near = first(suppressed & (distance <= best[:, :1]), owner, distance)
        quiet_at = distance.masked_fill(~(quiet & (owner == suppressed_owner[:, None])), math.inf).min(1).values
        near_enough_to_matter = top[:, -1] >= 1 - best[:, -1].square() / 2 - MARGIN
        settled = (winners[:, -1] >= 0) & ~near_enough_to_matter
        return [column.cpu() for column in (winners, best, suppressed_owner, near, quiet_at)], settled.cpu()


def _distance(similarity: float) -> float:
    return math.sqrt(max(0.0, 2 - 2 * similarity)) if similarity < math.inf else 0.0
