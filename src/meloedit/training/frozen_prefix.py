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


def select_rows(value: Any, picks: Tensor, count: int) -> Any:
    """Select rows of a cached value.

    Args:
        value: a tensor, or a tuple of values. What is not a tensor of ``count`` rows serves all rows as it is.
        picks: numbers of the rows.
        count: how many rows there are.
    """
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == count:
        return value[picks.to(value.device)]
    return tuple(select_rows(item, picks, count) for item in value) if isinstance(value, tuple) else value
