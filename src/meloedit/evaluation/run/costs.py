"""The cost of edits: editing time, answer time relative to the unedited model's, size."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.estimates import Estimate, pooled

if TYPE_CHECKING:
    from ...methods.base import Method
    from ...types import Progress, Prompt
    from .folder import EditingPart

TIMED_TOKENS = 16
"""Tokens of each timed answer; the model cannot stop earlier."""
COSTS = ("edits_per_minute", "answer_time_ratio", "parameters_per_edit", "bytes_per_edit")
"""The figures of cost."""


@dataclass
class Cost:
    """Figures of cost, and details that have no interval."""

    figures: dict[str, Estimate] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def exact(self, name: str, value: float, count: int) -> None:
        """Add a figure that was counted rather than sampled, so that its interval has no width."""
        self.figures[name] = Estimate(value, value, value, count)


def editing_speed(parts: Sequence[EditingPart]) -> Estimate:
    """Return edits per minute over all parts, by the clock; the interval draws parts, and one part has none."""
    edits, seconds = [float(part["edits"]) for part in parts], [max(float(part["seconds"]), 1e-9) for part in parts]
    speed = pooled([60 * n for n in edits], seconds)
    low, high = (speed.low, speed.high) if len(parts) > 1 else (math.nan, math.nan)
    return Estimate(speed.value, low, high, int(sum(edits)))


def answer_time(method: Method, base: Method, prompts: Sequence[Prompt], progress: Progress) -> Estimate:
    """Return the median over prompts of the answer time relative to the base model's; the two models take turns.

    The interval draws prompts.
    """
    ratios: list[float] = []
    for i, prompt in enumerate([prompts[0], *prompts]):
        times = {}
        for one in (method, base) if i % 2 else (base, method):
            began = time.perf_counter()
            one.answer([prompt], TIMED_TOKENS, min_new_tokens=TIMED_TOKENS)
            times[one] = time.perf_counter() - began
        ratios.append(times[method] / times[base])
        progress(f"{method.name}: timing answers", i, len(prompts))
    ratios = ratios[1:]  # the first call of each model warms up
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Estimate(median(ratios), float(low), float(high), len(ratios))
