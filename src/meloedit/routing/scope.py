"""The scope that all edits share: one similarity, calibrated by prompts that no edit should answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..keys.similarity import Similarity

SAME_WORDS = 0.99
"""Similarity from which two prompts are the same words, case and punctuation aside."""

LISTED = 4
"""Nearest keys that each calibration prompt knows: so many removals are possible without a look at all keys."""
SCORES = 2**20
"""Similarities of calibration prompts to keys that are computed at once."""
NONE = -2.0
"""Stands where a list has no key; less than any similarity."""


@dataclass(frozen=True)
class NearestCache:
    """The keys nearest to each of n calibration prompts, of the edits ``held`` at some time.

    Attributes:
        near: (n, LISTED) their similarities, descending.
        owner: (n, LISTED) the edits that they belong to; -1 where there is none.
        held: numbers of the edits among whose keys these are the nearest.
    """

    near: Tensor
    owner: Tensor
    held: frozenset[int]

    def fit(self, prompts: int) -> bool:
        """Return whether these can be lists of so many prompts: another version may have written others."""
        near, owner = self.near, self.owner
        shapes = near.shape == owner.shape == (prompts, LISTED)
        return shapes and near.dtype == torch.float32 and owner.dtype == torch.int32 and bool(near.isfinite().all())


class Scope:
    """Calibration prompts, and for each the keys of edits that lie nearest to it.

    With n prompts and m_i the largest similarity of prompt i to any edit's key, the scope is the
    ceil((n + 1)(1 - a))-th smallest m_i: an unrelated prompt like those of the calibration fires with probability at
    most a, however many edits there are (split conformal prediction on the maximum).

    The m_i follow every change at the cost of the change: a new edit is compared with the prompts alone, and where an
    edit leaves, the next of the prompt's list takes its place.

    Args:
        similarity: how near a key lies to another.
        prompts: (n, k) keys of the calibration prompts.
        false_activation: a, the stated share of such prompts that may fire.
        min_similarity: similarity below which nothing fires; decides while edits are few.
        of: (n,) the prompt that each key is of, where prompts have several; its largest similarity counts.
    """

    def __init__(
        self,
        similarity: Similarity,
        prompts: Tensor,
        false_activation: float,
        min_similarity: float,
        of: Tensor | None,
    ) -> None:
        self._by, self._prompts = similarity, prompts
        self._of = (torch.arange(len(prompts)) if of is None else of.long()).to(prompts.device)
        self._false_activation = false_activation
        self._min_similarity = min_similarity
        self._words = similarity.listed(prompts, names=False)
        self._near = torch.full((len(prompts), LISTED), NONE, device=prompts.device)  # descending; the very nearest
        self._owner = torch.full((len(prompts), LISTED), -1, device=prompts.device)
        self._similarity: float | None = None

    @property
    def similarity(self) -> float:
        """The similarity that a key must exceed to be in scope; inf with too few prompts for the stated rate.

        Calibration prompts that ask an edit in its own words (traffic does) are in its scope and do not count against
        it.
        """
        if self._similarity is None:
            self._similarity = max(self._min_similarity, self.calibrated)
        return self._similarity

    @property
    def calibrated(self) -> float:
        """The similarity that the calibration prompts alone set, whatever ``min_similarity`` says; -1 without any."""
        if not len(self._prompts):
            return -1.0
        best = self._near.new_full((int(self._of.max()) + 1,), -1.0)
        best = best.scatter_reduce(0, self._of, self._near[:, 0], "amax")
        best = best[best < SAME_WORDS]
        place = math.ceil((len(best) + 1) * (1 - self._false_activation))
        if place > len(best):
            return math.inf
        return float(torch.kthvalue(best, place).values)

    @property
    def lists(self) -> tuple[Tensor, Tensor]:
        """Similarities and owners of the keys that are listed for each prompt, see ``NearestCache``."""
        return self._near, self._owner

    def restore(self, near: Tensor, owner: Tensor) -> None:
        """Take up lists that were made of the same prompts."""
        self._similarity = None
        self._near, self._owner = near.to(self._near), owner.to(self._owner)

    def rescore(self, keys: Tensor, owner: Tensor, quiet: Tensor, which: Tensor | None = None) -> None:
        """List the nearest of all keys (m, k) for some prompts, or for all; ``quiet`` keys do not count."""
        self._similarity = None
        for part, near, own in self._nearest(keys, owner, quiet, which):
            self._near[part], self._owner[part] = near, own

    def add(self, keys: Tensor, owner: Tensor, quiet: Tensor) -> None:
        """Take new keys (m, k) into the lists."""
        self._similarity = None
        for part, new, new_owner in self._nearest(keys, owner, quiet):
            near, own = self._near[part], self._owner[part]
            # What lies beyond a list's end is not known once a key has left it, so only nearer ones join. All lists
            # that are empty have never had any.
            listed = (near > NONE).sum(1, keepdim=True)
            end = near.gather(1, (listed - 1).clamp(min=0))
            new = torch.where((new > end) | (listed == 0), new, NONE)
            self._near[part], at = torch.cat([near, new], 1).topk(LISTED, dim=1)
            self._owner[part] = torch.cat([own, new_owner], 1).gather(1, at)

    def remove(self, owners: Sequence[int]) -> Tensor:
        """Take edits off the lists; return the prompts whose lists are empty now, which must be scored again."""
        self._similarity = None
        hit = torch.isin(self._owner, torch.tensor(owners, device=self._owner.device))
        touched = torch.nonzero(hit.any(1)).flatten()
        if len(touched):
            near, at = self._near[touched].masked_fill(hit[touched], NONE).sort(dim=1, descending=True)
            self._near[touched], self._owner[touched] = near, self._owner[touched].gather(1, at)
        return touched[self._near[touched, 0] == NONE]

    def _nearest(
        self, keys: Tensor, owner: Tensor, quiet: Tensor, which: Tensor | None = None
    ) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
        """Yield parts of the prompts (``which``: of some, ascending) with what is nearest to each of a part.

        That is similarities (n, LISTED), descending, and the owners of the keys.
        """
        count = len(self._prompts) if which is None else len(which)
        listed, size = min(LISTED, len(keys)), max(1, SCORES // max(1, len(keys)))
        pad, whole = (0, LISTED - listed), which is None and count <= size
        names = None if whole else self._by.listed(keys, names=True)
        for start in range(0, count, size):
            part = slice(start, start + size) if which is None else which[start : start + size]
            prompts, found = self._prompts[part], None
            if names is not None:
                found = names.mentioned_by(self._by.words(prompts))
            elif self._words is not None:  # few keys: their names are looked up among the words of all prompts
                found = self._words.mentions(self._by.words(keys))
            near, at = self._by.between(prompts, keys, found).masked_fill_(quiet, NONE).topk(listed, dim=1)
            yield part, functional.pad(near, pad, value=NONE), functional.pad(owner[at], pad, value=-1)
