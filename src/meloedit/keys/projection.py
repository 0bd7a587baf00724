"""Projection: from pooled hidden states to unit vectors that tell questions apart (PCA whitening, or Fisher's LDA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..callers.precision import exact


@dataclass(frozen=True)
class Projection:
    """An affine map, then unit length: key(h) = W (h - mu) / |W (h - mu)|.

    The distance of two such vectors is |u - v| = sqrt(2 - 2 cos). scikit-learn's ``PCA(whiten=True)`` and
    ``LinearDiscriminantAnalysis`` fit the like; their shrinkage and scaling differ, and keys must not change.

    Attributes:
        mean: mu, (d,) float32.
        components: W, (k, d) float32.
    """

    mean: Tensor
    components: Tensor

    @property
    def size(self) -> int:
        """How many numbers a projected state has, k."""
        return len(self.components)

    @classmethod
    def fit(cls, states: Tensor, size: int, shrinkage: float = 0.1) -> Projection:
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

    @classmethod
    def fit_pairs(cls, first: Tensor, second: Tensor, size: int, shrinkage: float = 0.1) -> Projection:
        """Fit on pooled states (n, d) of the same n questions in two wordings: each question is a class of its own."""
        of = torch.arange(len(first)).repeat(2)
        return cls.fit_classes(torch.cat([first, second]), of, size, shrinkage)

    @classmethod
    def fit_classes(cls, states: Tensor, of: Tensor, size: int, shrinkage: float = 0.1) -> Projection:
        """Fit Fisher's linear discriminant on pooled states (n, d) of classes ``of`` (n,), numbered from 0.

        The ``size`` axes along which the means of the classes differ most, relative to the scatter within classes; they
        are scaled to unit scatter within. That scatter, S_w, is shrunk towards its mean variance by ``shrinkage``.
        """
        states = states.double()
        mean = states.mean(0)
        counts = torch.bincount(of)
        centres = torch.zeros(len(counts), states.shape[1], dtype=states.dtype).index_add_(0, of, states - mean)
        centres = (centres / counts[:, None])[of]
        inner = states - mean - centres
        within, between = inner.T @ inner / len(states), centres.T @ centres / len(states)
        within = (1 - shrinkage) * within + shrinkage * within.diagonal().mean() * torch.eye(
            len(mean), dtype=states.dtype
        )
        variances, axes = torch.linalg.eigh(within)
        scaled = axes / variances.sqrt()
        along = torch.linalg.eigh(scaled.T @ between @ scaled).eigenvectors.flip(1)[:, :size]  # the greatest first
        return cls(mean.float(), (scaled @ along).T.float().contiguous())

    def __call__(self, pooled: Tensor) -> Tensor:
        """Map pooled states (..., d) to vectors (..., k) of unit length, in float32 on the states' device."""
        mean, components = self.mean.to(pooled.device), self.components.to(pooled.device)
        with exact(pooled.device):
            return nn.functional.normalize((pooled.float() - mean) @ components.T, dim=-1)

    def to_tensors(self, name: str) -> dict[str, Tensor]:
        """Return mean and components under ``NAME.mean`` and ``NAME.components``."""
        return {f"{name}.mean": self.mean, f"{name}.components": self.components}

    @classmethod
    def from_tensors(cls, name: str, tensors: Mapping[str, Tensor]) -> Projection | None:
        """Make the projection that was stored under a name; ``None`` if there is none."""
        if f"{name}.mean" not in tensors:
            return None
        return cls(tensors[f"{name}.mean"], tensors[f"{name}.components"])
