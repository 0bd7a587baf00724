"""Helpers of both kinds of cached prefix: check that it reproduces the model, and select rows of it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def reproduces(again: Tensor, expected: Tensor) -> bool:
    """Return whether running the upper layers over a cached prefix gives the model's output, up to rounding.

    Warns where it does not: then training has to run the whole model at every step.

    Args:
        again: the output over the cached prefix.
        expected: the base model's output, of the same shape.
    """
    error = float((again - expected).abs().max() / expected.abs().max())
    if error > (1e-4 if again.dtype == torch.float32 else 3e-2):
        logger.warning("running the upper layers again errs by %.1e: training runs the whole model instead", error)
        return False
    return True


def select_rows(value: Any, picks: Tensor, count: int, of_one: Any = None) -> Any:
    """Select rows of a cached value.

    Args:
        value: a tensor, or a tuple of values. What does not have ``count`` rows serves all rows as it is.
        picks: numbers of the rows.
        count: how many rows there are.
        of_one: the same value of a batch of one row. It tells what has rows, and how many entries each row has: some
            models have one for each row and head. Without it each row has one.
    """
    if isinstance(value, tuple):
        ones = of_one if isinstance(of_one, tuple) and len(of_one) == len(value) else (None,) * len(value)
        return tuple(select_rows(item, picks, count, one) for item, one in zip(value, ones, strict=True))
    if not isinstance(value, Tensor) or not value.dim():
        return value
    entries = of_one.shape[0] if isinstance(of_one, Tensor) and of_one.dim() else 1
    if value.shape[0] != entries * count:
        return value
    return value.unflatten(0, (count, entries))[picks.to(value.device)].flatten(0, 1)
