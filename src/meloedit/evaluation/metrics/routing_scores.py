"""Figures of routing alone: which edit is nearest to a prompt, and how well distance tells edits' prompts from others.

A threshold that lets a share s of n negatives through is the distance below which floor(s n) of them lie. The intervals
draw whole edits and, with all that are of one edit or question, negatives, and set the threshold anew in each draw.
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
    """Distances of prompts that no edit should answer, and the number of what each is a prompt of: drawn together."""

    distance: Sequence[float]
    item: Sequence[int]


class Measured:
    """Distances of prompts to their nearest edits, by what the prompts are.

    Args:
        distance: (n,) of each prompt of edits; smaller is nearer.
        right: (n,) whether the nearest edit is the prompt's own.
        item: (n,) number of that edit: rows of one edit are drawn together.
    """

    def __init__(self, distance: Sequence[float], right: Sequence[bool], item: Sequence[int]) -> None:
        self.distance, self.right = np.asarray(distance, float), np.asarray(right, bool)
        self._draw = _drawer(item)

    def covered(self, negatives: Negatives, share: float, seed: int = 0) -> Estimate:
        """Return the share of prompts that reach their own edit where that share of negatives reaches any."""
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
    """Return what draws as many items as there are, with replacement, and gives the numbers of all their rows."""
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
    return float(np.partition(negatives, place := int(share * len(negatives)))[place])


def _auc(near: Floats, far: Floats) -> float:
    """Return P(near < far) + P(near = far) / 2, by ranks."""
    far = np.sort(far)
    below, upto = np.searchsorted(far, near, "left"), np.searchsorted(far, near, "right")
    return float(((len(far) - upto) + (upto - below) / 2).mean() / len(far))
