"""Metrics of routing alone: how well the distance to the nearest edit separates edits' prompts from negatives.

A threshold that lets a share s of n negatives through is the distance below which floor(s n) of them lie. Intervals
draw whole edits, and all negatives of one edit or question together; every draw sets its threshold again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimates import CONFIDENCE, Estimate

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
DRAWS = 400
"""Draws of an interval."""


@dataclass(frozen=True)
class Negatives:
    """Distances of n prompts that no edit should answer, and the number of each one's item: items are drawn whole."""

    distance: Sequence[float]
    item: Sequence[int]


class EditDistances:
    """Distances of n prompts of edits to their nearest edits.

    Args:
        distance: (n,) distance to the nearest edit.
        right: (n,) whether the nearest edit is the prompt's edit.
        item: (n,) number of the prompt's edit; prompts of one edit are drawn together.
    """

    def __init__(self, distance: Sequence[float], right: Sequence[bool], item: Sequence[int]) -> None:
        self.distance, self.right = np.asarray(distance, float), np.asarray(right, bool)
        self._draw = _drawer(item)

    def coverage(self, negatives: Negatives, share: float, seed: int = 0) -> Estimate:
        """Return the share of prompts that reach their edit, at the threshold that ``share`` of negatives pass."""
        return self._drawn(negatives, lambda rows, far: self._coverage(rows, far, share), seed)

    def auc(self, negatives: Negatives, seed: int = 0) -> Estimate:
        """Return the chance that a prompt of an edit lies nearer than a negative; ties count half."""
        return self._drawn(negatives, lambda rows, far: _auc(self.distance[rows], far), seed)

    def _coverage(self, rows: Rows, far: Floats, share: float) -> float:
        return float((self.right[rows] & (self.distance[rows] < threshold(far, share))).mean())

    def _drawn(self, negatives: Negatives, figure: Callable[[Rows, Floats], float], seed: int) -> Estimate:
        far, rng = np.asarray(negatives.distance, float), np.random.default_rng(seed)
        draw_far = _drawer(negatives.item)
        drawn = [figure(self._draw(rng), far[draw_far(rng)]) for _ in range(DRAWS)]
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(figure(np.arange(len(self.distance)), far), float(low), float(high), len(self.distance))


def _drawer(item: Sequence[int]) -> Callable[[np.random.Generator], Rows]:
    """Return a function that draws as many items as there are, with replacement, and returns all their row numbers."""
    _, number, counts = np.unique(np.asarray(item), return_inverse=True, return_counts=True)
    order, starts = np.argsort(number, kind="stable"), np.cumsum(counts) - counts

    def draw(rng: np.random.Generator) -> Rows:
        drawn = rng.integers(len(counts), size=len(counts))
        sizes = counts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # 0, 1, ... in each item
        rows: Rows = order[np.repeat(starts[drawn], sizes) + within]
        return rows

    return draw


def threshold(negatives: Floats, share: float) -> float:
    """Return the distance below which floor(share * n) of n negatives lie."""
    rank = int(share * len(negatives))
    return float(np.partition(negatives, rank)[rank])


def _auc(near: Floats, far: Floats) -> float:
    """Return P(near < far) + P(near = far) / 2, by ranks."""
    far = np.sort(far)
    below, upto = np.searchsorted(far, near, "left"), np.searchsorted(far, near, "right")
    return float(((len(far) - upto) + (upto - below) / 2).mean() / len(far))
