"""Time two sides against each other on a noisy machine.

Runs alternate, so that a busy moment hurts both. The figure is the ratio of a pair of neighbouring runs.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy.stats import binom

Side = Callable[[], object]


def seconds(side: Side) -> float:
    """Return the seconds that one run takes, until a GPU has finished its work too."""
    _settle()
    began = time.perf_counter()
    side()
    _settle()
    return time.perf_counter() - began


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, list[float]]:
    """Return the median and its interval by order statistics, which assume no distribution of the noise."""
    ordered, count = sorted(values), len(values)
    below = int(binom.ppf((1 - confidence) / 2, count, 0.5))
    low = max(0, below - 1)
    return statistics.median(ordered), [ordered[low], ordered[count - 1 - low]]


def compare(ours: Side, rival: Side, rounds: int, warm: int = 2) -> dict[str, Any]:
    """Run both sides in turn, each first in every other round; return the median of ours / rival with its interval.

    Returns:
        ``ratio``, its 95 % interval ``ci``, the medians in seconds, and the number of rounds.
    """
    for _ in range(warm):
        ours(), rival()
    took: list[tuple[float, float]] = []
    gc.collect()
    gc.disable()
    try:
        for i in range(rounds):
            if i % 2:
                took.append((seconds(ours), seconds(rival)))
            else:
                late = seconds(rival)
                took.append((seconds(ours), late))
    finally:
        gc.enable()
    return ratio_of(took)


def ratio_of(took: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the median ratio of pairs of seconds, its interval and both medians."""
    ratio, ci = median_interval([a / b for a, b in took])
    ours, rival = (statistics.median(column) for column in zip(*took, strict=True))
    return {
        "ratio": round(ratio, 4),
        "ci": [round(end, 4) for end in ci],
        "seconds": round(ours, 6),
        "rival_seconds": round(rival, 6),
        "rounds": len(took),
    }
