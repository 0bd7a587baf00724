"""The closed forms of ROME, MEMIT and AlphaEdit, on plain tensors.

A feed-forward's output matrix W (o, d) maps keys k (d,) to values. C (d, d) is the mean of k k' over the keys of
ordinary text. K (d, n) are the keys of n edits, and R (o, n) what their values lack. All of it is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor


def direction(key: Tensor, moment: Tensor) -> Tensor:
    """Return ROME's u = C^-1 k / |C^-1 k|, the direction in which other keys are disturbed least."""
    solved = torch.linalg.solve(moment, key)
    return solved / solved.norm()


def rank_one(u: Tensor, key: Tensor, lacking: Tensor) -> Tensor:
    """Return ROME's update (o, d) of rank one, after which the key's value has changed by ``lacking`` (o,)."""
    return torch.outer(lacking / (key @ u), u)


def least_squares(keys: Tensor, lacking: Tensor, moment: Tensor, weight: float) -> Tensor:
    """Return MEMIT's update R K' (w C + K K')^-1 (o, d)."""
    return lacking @ torch.linalg.solve(weight * moment + keys @ keys.T, keys).T


def null_space(moment: Tensor, threshold: float) -> Tensor:
    """Return AlphaEdit's P (d, d), onto the directions in which ordinary keys are smaller than the threshold.

    Args:
        moment: (d, d) C.
        threshold: the eigenvalue of C below which a direction counts.
    """
    values, vectors = torch.linalg.eigh(moment)  # C is symmetric: its singular vectors are its eigenvectors
    small = vectors[:, values < threshold]
    return small @ small.T


def in_null_space(keys: Tensor, lacking: Tensor, projection: Tensor, earlier: Tensor, ridge: float) -> Tensor:
    """Return AlphaEdit's update R K' P (P (K K' + E) + r I)^-1, transposed as its authors solve it: (o, d).

    Args:
        keys: (d, n) K.
        lacking: (o, n) R.
        projection: (d, d) P.
        earlier: (d, d) E, the sum of K K' of earlier edits.
        ridge: r.
    """
    left = projection @ (keys @ keys.T + earlier) + ridge * torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
    return torch.linalg.solve(left, projection @ keys @ lacking.T).T
