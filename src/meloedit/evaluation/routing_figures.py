"""Figures of routing alone: which edit is nearest to a prompt, and how well distance tells edits' prompts from others.

A threshold that lets a share s of n negatives through is the distance below which floor(s n) of them lie. The intervals
draw whole edits, and negatives, with replacement, and set the threshold anew in each draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .metrics import CONFIDENCE, Estimate

Floats = NDArray[np.float64]
DRAWS = 400
"""Draws of an interval."""


class Measured:
    """Distances of prompts to their nearest edits, by what the prompts are.

    Args:
        distance: (n,) of each prompt of edits; smaller is nearer.
        right: (n,) whether the nearest edit is the prompt's own.
        item: (n,) number of that edit: rows of one edit are drawn together.
    """

    def __init__(self, distance: Sequence[float], right: Sequence[bool], item: Sequence[int]) -> None:
        self.distance, self.right = np.asarray(distance, float), np.asarray(right, bool)
        _, self.item = np.unique(np.asarray(item), return_inverse=True)

    def covered(self, negatives: Sequence[float], share: float, seed: int = 0) -> Estimate:
        """Return the share of prompts that reach their own edit where that share of negatives reaches any."""
        return self._drawn(negatives, lambda rows, far: self._coverage(rows, far, share), seed)

    def auc(self, negatives: Sequence[float], seed: int = 0) -> Estimate:
        """Return the chance that a prompt of an edit lies nearer than a negative; ties count half."""
        return self._drawn(negatives, lambda rows, far: _auc(self.distance[rows], far), seed)

    def _coverage(self, rows: NDArray[np.int64], far: Floats, share: float) -> float:
        return float((self.right[rows] & (self.distance[rows] < threshold(far, share))).mean())

    def _drawn(
        self, negatives: Sequence[float], figure: Callable[[NDArray[np.int64], Floats], float], seed: int
    ) -> Estimate:
        far, rng = np.asarray(negatives, float), np.random.default_rng(seed)
        order = np.argsort(self.item, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.item[order])) + 1)
        drawn = []
        for _ in range(DRAWS):
            rows = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
            drawn.append(figure(rows, rng.choice(far, len(far))))
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(figure(np.arange(len(self.distance)), far), float(low), float(high), len(self.distance))


def threshold(negatives: Floats, share: float) -> float:
    """Return the distance below which floor(share * n) of n negatives lie."""
    return float(np.partition(negatives, place := int(share * len(negatives)))[place])


def _auc(near: Floats, far: Floats) -> float:
    """Return P(near < far) + P(near = far) / 2, by ranks."""
    far = np.sort(far)
    below, upto = np.searchsorted(far, near, "left"), np.searchsorted(far, near, "right")
    return float(((len(far) - upto) + (upto - below) / 2).mean() / len(far))
