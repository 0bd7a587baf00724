"""Values of a run's files made safe to show: numbers of any kind, texts of any length."""

from __future__ import annotations

import math
from typing import Any

from ...text import printable, shorten


def number(value: Any) -> float | None:
    """Return a number as a float (NaN and infinities too), and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite(value: float | None) -> bool:
    """Return whether a value is a finite number, which can be compared and drawn."""
    return value is not None and math.isfinite(value)


def short(text: str, longest: int = 200) -> str:
    """Return a text in one line of at most ``longest`` characters; unprintable characters are replaced."""
    return printable(shorten(text, longest))
