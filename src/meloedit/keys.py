"""Keys: the vectors that stand for prompts (DESIGN's "pooled and whitened" hidden states)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Whitening:
    """An affine map that makes the states of ordinary prompts uncorrelated, then unit length.

    key(h) = W (h - mu) / |W (h - mu)|, so the distance of two keys is |u - v| = sqrt(2 - 2 cos).

    Attributes:
        mean: mu, (d,) float32.
        components: W, (k, d) float32.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, states: Tensor, size: int, shrinkage: float = 0.1) -> Whitening:
        """Fit on pooled ``states`` (n, d): the ``size`` leading principal axes, each divided by its standard deviation.

        The variances are shrunk towards their mean by ``shrinkage``: with few states the small ones are noise, and
        dividing by them would let noise decide.
        """
        states = states.double()
        mean = states.mean(0)
        centred = states - mean
        covariance = centred.T @ centred / max(1, len(states) - 1)
        variances, axes = torch.linalg.eigh(covariance)  # ascending
        variances, axes = variances.flip(0)[:size], axes.flip(1)[:, :size]
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
        return cls(mean.float(), (axes / shrunk.sqrt()).T.float().contiguous())

    def __call__(self, pooled: Tensor) -> Tensor:
        """Map pooled states (..., d) to keys (..., k) of unit length, in float32 on the states' device."""
        mean, components = self.mean.to(pooled.device), self.components.to(pooled.device)
        return nn.functional.normalize((pooled.float() - mean) @ components.T, dim=-1)
