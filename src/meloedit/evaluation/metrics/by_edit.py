"""Means over observations with intervals over edits, since prompts of one edit are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .estimates import Estimate, mean, pooled, share, share_of_groups
from .observation import Observation

Value = Callable[[Observation], float | None]
"""Returns one observation's value of a metric; ``None`` if it was not measured."""


def by_edit(rows: Iterable[Observation], value: Value, shares: bool = True) -> Estimate | None:
    """Return the mean of a value over observations, with an interval over edits; ``None`` if no row has the value.

    Args:
        rows: the observations.
        value: takes the value of a row.
        shares: whether values lie between 0 and 1.
    """
    return by_item(((row["item"], value(row)) for row in rows), shares)


def by_item(pairs: Iterable[tuple[int, float | None]], shares: bool = True) -> Estimate | None:
    """Return the mean of values, with an interval that draws items; ``None`` if there is no value.

    Args:
        pairs: number of the item, and the value; values that are ``None`` do not count.
        shares: whether values lie between 0 and 1.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for item, value in pairs:
        if value is not None:
            sums[item] = sums.get(item, 0.0) + float(value)
            counts[item] = counts.get(item, 0) + 1
    if not sums:
        return None
    if max(counts.values()) > 1:
        return (share_of_groups if shares else pooled)(list(sums.values()), list(counts.values()))
    if shares and set(sums.values()) <= {0.0, 1.0}:
        return share([value == 1 for value in sums.values()])
    return mean(list(sums.values()))
