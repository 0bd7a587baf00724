"""What holds weights back while they train on new examples: online EWC and online L2, as gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def add_l2(weights: Weights, start: Weights, weight: float) -> None:
    """Add the gradient of ``weight`` |w - start|^2 to the weights' gradients (CMR: ``diff_loss_weight``).

    Args:
        weights: the weights that train, by name, each with a gradient.
        start: what they were before the call.
        weight: of the penalty.
    """
    for name, value in weights.items():
        _gradient(value).add_(value.detach() - start[name], alpha=2 * weight)


def add_ewc(weights: Weights, start: Weights, fisher: Weights, strength: float) -> None:
    """Add the gradient of ``strength`` / 2 times the sum of F (w - start)^2 (online EWC, arXiv 1805.06370).

    Args:
        weights: the weights that train, by name, each with a gradient.
        start: what they were before the call.
        fisher: F, the running Fisher information of each.
        strength: CMR's ``ewc_lambda`` times ``ewc_gamma``.
    """
    for name, value in weights.items():
        _gradient(value).addcmul_(fisher[name], value.detach() - start[name], value=strength)


def estimate_fisher(
    weights: Weights, examples: Sequence[Any], loss: Callable[[list[Any]], Tensor]
) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher information: the mean of squared gradients, one example at a time.

    Args:
        weights: the weights, by name; they must require gradients.
        examples: what they were trained on.
        loss: the loss of a list of examples, with the given targets.
    """
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    values = list(weights.values())
    for example in examples:
        gradients = torch.autograd.grad(loss([example]), values, allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name].addcmul_(gradient, gradient)
    for value in total.values():
        value.div_(len(examples))
    return total


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:  # no row of the batch reads it
        weight.grad = torch.zeros_like(weight)
    return weight.grad
