"""Scope: the one similarity above which edits fire, set by prompts that no edit should answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..keys.keys import Keys
from ..keys.similarity import similarities, word_index
from .key_table import OwnedKeys

SAME_WORDS = 0.99
"""Similarity from which two prompts have the same words, case and punctuation aside."""
CACHED = 8
"""Nearest keys cached per calibration prompt. After that many removals the prompt is scored again."""
SHORT_SHARE = 0.6
"""Share of ``min_similarity`` that suffices for a short prompt, where a judge decides."""
SCORES_AT_ONCE = 2**20
"""Similarities of calibration prompts to keys that are computed at once."""
NO_KEY = -2.0
"""Similarity where a cache has no key; less than any other."""


@dataclass(frozen=True)
class NearestCache:
    """The keys nearest to each of n calibration prompts, among those of the edits ``owners``.

    Attributes:
        near: (n, CACHED) their similarities, descending.
        owner: (n, CACHED) the edits that they belong to; -1 where there is none.
        owners: numbers of the edits that were searched.
    """

    near: Tensor
    owner: Tensor
    owners: frozenset[int]

    def fits(self, prompts: int) -> bool:
        """Return whether this can be the cache of so many prompts."""
        near, owner = self.near, self.owner
        shapes = near.shape == owner.shape == (prompts, CACHED)
        return shapes and near.dtype == torch.float32 and owner.dtype == torch.int32 and bool(near.isfinite().all())


class Scope:
    """Calibration prompts, and for each the nearest keys of edits.

    With n prompts and m_i the largest similarity of prompt i to any edit's key, the scope is the
    ceil((n + 1)(1 - a))-th smallest m_i: an unrelated prompt like those of the calibration fires with probability at
    most a, however many edits there are (split conformal prediction on the maximum).

    The m_i follow every change at the cost of the change: a new edit is compared with the prompts alone, and where an
    edit leaves, the next cached key takes its place.

    Args:
        prompts: (n,) keys of the calibration prompts.
        false_activation: a, the stated share of such prompts that may fire.
        min_similarity: similarity below which nothing fires; decides while edits are few.
        prompt_of: (n,) the prompt of each key, where prompts have several; the largest similarity of a prompt counts.
        short: (n,) of each key whether its prompt is short: then ``short_similarity`` is its scope; ``None``: none is.
    """

    def __init__(
        self,
        prompts: Keys,
        false_activation: float,
        min_similarity: float,
        prompt_of: Tensor | None = None,
        short: Tensor | None = None,
    ) -> None:
        device = prompts.content.device
        self._prompts = prompts
        self._prompt_of = (torch.arange(len(prompts)) if prompt_of is None else prompt_of.long()).to(device)
        self._false_activation = false_activation
        self._min_similarity = min_similarity
        self._short = short if short is None else short.to(device)
        self._words = word_index(prompts, names=False)
        self._near = torch.full(
            (len(prompts), CACHED), NO_KEY, device=device, dtype=torch.float32
        )  # descending; never misses the nearest
        self._owner = torch.full((len(prompts), CACHED), -1, device=device)
        self._calibrated: float | None = None  # of the keys in use; made again after a change

    @property
    def similarity(self) -> float:
        """The similarity that a key must exceed to be in scope; inf with too few prompts for the stated rate."""
        return max(self._min_similarity, self.calibrated)

    @property
    def short_similarity(self) -> float:
        """The same for a short prompt."""
        return max(min(self._min_similarity, self._min_similarity * SHORT_SHARE), self.calibrated)

    @property
    def calibrated(self) -> float:
        """The similarity that the calibration prompts alone set, whatever ``min_similarity`` says; -1 without any.

        Calibration prompts that ask an edit in its own words (traffic does) are in its scope and do not count against
        it.
        """
        if self._calibrated is None:
            self._calibrated = self._quantile()
        return self._calibrated

    def _quantile(self) -> float:
        if not len(self._prompts):
            return -1.0
        best = self._near.new_full((int(self._prompt_of.max()) + 1,), -1.0)
        best = best.scatter_reduce(0, self._prompt_of, self._near[:, 0], "amax")
        best = best[best < SAME_WORDS]
        place = math.ceil((len(best) + 1) * (1 - self._false_activation))
        if place > len(best):
            return math.inf
        return float(torch.kthvalue(best, place).values)

    def candidates(self) -> dict[tuple[int, int], float]:
        """Return the distances of the edits in scope for each prompt, by (prompt, edit); the nearest few of each."""
        least = self._near.new_full((len(self._near), 1), self.similarity)
        if self._short is not None:
            least[self._short] = self.short_similarity
        row, slot = torch.nonzero(self._near > least, as_tuple=True)
        distance = (2 - 2 * self._near[row, slot]).clamp(min=0).sqrt()
        found: dict[tuple[int, int], float] = {}
        pairs = zip(self._prompt_of[row].tolist(), self._owner[row, slot].tolist(), strict=True)
        for pair, near in zip(pairs, distance.tolist(), strict=True):
            found[pair] = min(near, found.get(pair, math.inf))
        return found

    def cache(self, owners: frozenset[int]) -> NearestCache:
        """Return what ``restore`` can start from; ``owners`` are the edits whose keys were searched."""
        return NearestCache(self._near.clone(), self._owner.clone(), owners)  # later changes are made in place

    def restore(self, cache: NearestCache) -> None:
        """Start from a cache that was made with the same prompts."""
        self._calibrated = None
        self._near, self._owner = cache.near.to(self._near), cache.owner.to(self._owner)

    def rescore(self, edits: OwnedKeys, which: Tensor | None = None) -> None:
        """Find the nearest of all keys for some prompts, or for all; quiet keys do not count."""
        self._calibrated = None
        for part, near, owner in self._nearest(edits, which):
            self._near[part], self._owner[part] = near, owner

    def add(self, edits: OwnedKeys) -> None:
        """Compare new keys with the prompts."""
        self._calibrated = None
        for part, new, new_owner in self._nearest(edits):
            near, owner = self._near[part], self._owner[part]
            # Which key comes after the last cached one is unknown once a key was removed, so only nearer ones join.
            # Caches that are empty have never had any.
            filled = (near > NO_KEY).sum(1, keepdim=True)
            end = near.gather(1, (filled - 1).clamp(min=0))
            new = torch.where((new > end) | (filled == 0), new, NO_KEY)
            self._near[part], at = torch.cat([near, new], 1).topk(CACHED, dim=1)
            self._owner[part] = torch.cat([owner, new_owner], 1).gather(1, at)

    def remove(self, owners: Sequence[int]) -> Tensor:
        """Remove edits from the caches; return the prompts whose caches are empty now, which must be scored again."""
        self._calibrated = None
        hit = torch.isin(self._owner, torch.tensor(owners, device=self._owner.device))
        touched = torch.nonzero(hit.any(1)).flatten()
        if len(touched):
            near, at = self._near[touched].masked_fill(hit[touched], NO_KEY).sort(dim=1, descending=True)
            self._near[touched], self._owner[touched] = near, self._owner[touched].gather(1, at)
        return touched[self._near[touched, 0] == NO_KEY]

    def _nearest(
        self, edits: OwnedKeys, which: Tensor | None = None
    ) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
        """Yield parts of the prompts (``which``: of these alone, ascending) with the nearest keys of each prompt.

        A part comes with similarities (n, CACHED), descending, and the owners of the keys.
        """
        keys, owner, quiet = edits
        count = len(self._prompts) if which is None else len(which)
        found, size = min(CACHED, len(keys)), max(1, SCORES_AT_ONCE // max(1, len(keys)))
        pad, whole = (0, CACHED - found), which is None and count <= size
        names = None if whole else word_index(keys, names=True)
        for start in range(0, count, size):
            part = slice(start, start + size) if which is None else which[start : start + size]
            prompts, mentions = self._prompts[part], None
            if names is not None:
                mentions = names.mentioned_by(prompts)
            elif self._words is not None:  # few keys: look their names up among the words of all prompts
                mentions = self._words.mentions(keys)
            near, at = similarities(prompts, keys, mentions).masked_fill_(quiet, NO_KEY).topk(found, dim=1)
            yield part, functional.pad(near, pad, value=NO_KEY), functional.pad(owner[at], pad, value=-1)
