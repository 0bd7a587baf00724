"""Metrics of routing alone: how well the distance to the nearest edit separates edits' prompts from negatives.

A threshold that lets a share s of n negatives through is the distance below which floor(s n) of them lie. Intervals
draw whole edits, and all negatives of one edit or question together; every draw sets its threshold again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimates import CONFIDENCE, Estimate

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
DRAWS = 400
"""Draws of an interval."""
AT_ONCE = 50
"""Draws that are counted together: each takes a number for every prompt."""


@dataclass(frozen=True)
class Negatives:
    """Distances of n prompts that no edit should answer, and the number of each one's item: items are drawn whole."""

    distance: Sequence[float]
    item: Sequence[int]


class Separation(NamedTuple):
    """How well a distance tells prompts of edits from negatives.

    Attributes:
        coverage: the share of prompts that reach their edit, for each share of negatives that may pass.
        auc: the chance that a prompt of an edit lies nearer than a negative; ties count half.
    """

    coverage: list[Estimate]
    auc: Estimate


class EditDistances:
    """Distances of n prompts of edits to their nearest edits.

    Args:
        distance: (n,) distance to the nearest edit.
        right: (n,) whether the nearest edit is the prompt's edit.
        item: (n,) number of the prompt's edit; prompts of one edit are drawn together.
    """

    def __init__(self, distance: Sequence[float], right: Sequence[bool], item: Sequence[int]) -> None:
        self._near = _Sorted(distance, item)
        self._right = np.asarray(right, bool)[self._near.order]

    def against(self, negatives: Negatives, shares: Sequence[float], seed: int = 0) -> Separation:
        """Return how well the distance tells these prompts from negatives; all figures come of the same draws.

        Args:
            negatives: the negatives.
            shares: shares of them that may pass, each of which sets a threshold.
            seed: of the draws.
        """
        far = _Sorted(negatives.distance, negatives.item)
        below, upto = (np.searchsorted(far.distance, self._near.distance, side) for side in ("left", "right"))
        parts = [self._figures(*times, far, (below, upto), shares) for times in _drawn(self._near, far, seed)]
        *coverage, auc = (self._estimate(drawn) for drawn in np.concatenate(parts, axis=1))
        return Separation(coverage, auc)

    def _figures(
        self, times: Counts, far_times: Counts, far: _Sorted, places: tuple[Counts, Counts], shares: Sequence[float]
    ) -> Floats:
        """Return the coverage at each share, then the AUC (shares + 1, D) of D draws.

        Args:
            times: (D, n) how often each prompt was drawn, by distance.
            far_times: (D, m) the same of the negatives.
            far: the negatives.
            places: (n,), (n,) how many negatives lie nearer than each prompt, and how many no farther.
            shares: shares of negatives that may pass.
        """
        size, passed, hits = times.sum(1), _summed(far_times), _summed(times * self._right)
        total = passed[:, -1]
        below, upto = passed[:, places[0]], passed[:, places[1]]
        auc = (times * ((total[:, None] - upto) + (upto - below) / 2)).sum(1) / size / total
        limits = [far.distance[(passed[:, 1:] <= rank[:, None]).sum(1)] for rank in _ranks(shares, total)]
        reached = [np.searchsorted(self._near.distance, limit, "left") for limit in limits]
        return np.stack([*(hits[np.arange(len(hits)), place] / size for place in reached), auc])

    def _estimate(self, drawn: Floats) -> Estimate:
        low, high = np.quantile(drawn[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(float(drawn[0]), float(low), float(high), len(self._right))


class _Sorted:
    """Distances (n,), the least first, the places that they came from, and the numbers of their items, from 0 on."""

    def __init__(self, distance: Sequence[float], item: Sequence[int]) -> None:
        given = np.asarray(distance, float)
        self.order = np.argsort(given, kind="stable")
        self.distance: Floats = given[self.order]
        items, number = np.unique(np.asarray(item), return_inverse=True)
        self.item: Counts = number[self.order]
        self.items = len(items)


def _drawn(near: _Sorted, far: _Sorted, seed: int) -> Iterator[tuple[Counts, Counts]]:
    """Yield how often prompts (D, n) and negatives (D, m) are drawn, some draws at a time; before all, each once.

    As many items are drawn as there are, with replacement, and each with all that belongs to it.
    """
    rng, sides = np.random.default_rng(seed), (near, far)
    once = tuple(np.ones((1, len(side.item)), np.int64) for side in sides)
    yield once[0], once[1]
    for start in range(0, DRAWS, AT_ONCE):
        draws = [
            [np.bincount(rng.integers(side.items, size=side.items), minlength=side.items) for side in sides]
            for _ in range(min(AT_ONCE, DRAWS - start))
        ]
        times, far_times = (
            np.stack(some)[:, side.item] for some, side in zip(zip(*draws, strict=True), sides, strict=True)
        )
        yield times, far_times


def _summed(counts: Counts) -> Counts:
    """Return the sums (D, n + 1) of the first 0, 1, ..., n counts (D, n)."""
    return np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))


def _ranks(shares: Sequence[float], total: Counts) -> list[Counts]:
    """Return for each share floor(share * n), of the numbers n (D,) of negatives drawn."""
    return [(share * total).astype(np.int64) for share in shares]
