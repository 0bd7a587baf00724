"""The losses of Transformer-Patcher (arXiv 2301.09785) as its authors' code computes them (``src/models/patch.py``)."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_greatest(values: Tensor, count: int, copies: int = 1) -> Tensor:
    """Return the mean of the ``count`` greatest of values, each of which counts as ``copies`` equal ones.

    The authors repeat an edit in its batch, so that each of its values is there several times: the copies need not be
    made to know which are the greatest.

    Args:
        values: any shape, at least one number.
        count: how many, copies counted; all if there are fewer.
        copies: how often each value is there.
    """
    values = values.flatten()
    left = min(count, len(values) * copies)
    top = values.topk(-(-left // copies)).values
    weights = torch.full_like(top, copies)
    weights[-1] = left - copies * (len(top) - 1)
    return (top * weights).sum() / left


def activation_loss(activations: Tensor, margin: float, count: int, copies: int = 1) -> Tensor:
    """Return the loss that brings a patch to answer its own query: mean of the greatest exp(margin - a).

    Args:
        activations: (n,) what each neuron has before its activation function, at its own query.
        margin: what it should exceed.
        count: how many of the greatest count.
        copies: how often the edit is in the batch.
    """
    return mean_of_greatest((margin - activations).exp(), count, copies)


def memory_loss(
    remembered: Tensor, activations: Tensor, margins: tuple[float, float], count: int, copies: int = 1
) -> Tensor:
    """Return the loss that keeps a patch from answering other queries.

    It is the mean of the greatest exp(m - a + margins[0]), so that each remembered m lies below the patch's own a by a
    margin, and that of the greatest exp(m - margins[1]), so that each lies below a bound.

    Args:
        remembered: (M, n) what the neurons have at the queries of the memory.
        activations: (n,) what each has at its own query.
        margins: the margin and the bound.
        count: how many of the greatest count.
        copies: how often the edit is in the batch.
    """
    below_own = (remembered - activations + margins[0]).exp()
    below_bound = (remembered - margins[1]).exp()
    return mean_of_greatest(below_own, count, copies) + mean_of_greatest(below_bound, count, copies)


def smoothed_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return the mean over tokens of the cross-entropy with smoothed labels, in nats.

    A share ``smoothing`` of a label goes to all tokens of the vocabulary but its own, in equal parts.

    Args:
        logits: (M, V).
        targets: (M,).
        smoothing: the share.
    """
    losses = -logits.log_softmax(-1)
    own = losses.gather(1, targets[:, None]).squeeze(1)
    each = smoothing / (logits.shape[-1] - 1)
    return ((1 - smoothing - each) * own + each * losses.sum(-1)).mean()
