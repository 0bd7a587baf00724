"""Keys in two dimensions: principal components, and vectors whose distances are nearly those of keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .keys import Keys

AXES = 2
NOTHING = 1e-12
"""Share of the variance below which a component is rounding."""


@dataclass(frozen=True)
class Axes:
    """The principal axes of points.

    Attributes:
        centre: (d,) the points' mean.
        directions: (2, d) unit vectors, that of the greatest variance first; zeros where there is none left.
        shares: each one's share of the variance.
    """

    centre: Tensor
    directions: Tensor
    shares: tuple[float, float]

    @classmethod
    def of(cls, points: Tensor) -> Axes:
        """Find the axes of points (n, d).

        A component's largest coordinate among the points is positive: algorithms differ in the signs that they return.
        """
        wide = points.double()
        centre = wide.mean(0) if len(wide) else wide.new_zeros(wide.shape[1])
        centred = wide - centre
        tall = len(centred) > centred.shape[1]
        values, vectors = torch.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
        values, vectors = values.clamp(min=0).flip(0), vectors.flip(1)  # the largest first
        total = values.sum()
        directions, shares = wide.new_zeros(AXES, wide.shape[1]), [0.0] * AXES
        for axis in range(min(AXES, len(values))):
            if values[axis] <= total * NOTHING:
                break
            direction = vectors[:, axis] if tall else vectors[:, axis] @ centred
            direction = direction / direction.norm()
            along = centred @ direction
            directions[axis] = direction * along[along.abs().argmax()].sign()
            shares[axis] = float(values[axis] / total)
        return cls(centre, directions, (shares[0], shares[1]))

    def places(self, points: Tensor) -> Tensor:
        """Return where points (n, d) lie on the axes, (n, 2)."""
        return (points.double() - self.centre) @ self.directions.T


def principal(keys: Tensor) -> tuple[Tensor, list[float]]:
    """Return the first two principal components (n, 2) of keys (n, d), and each one's share of the variance."""
    axes = Axes.of(keys)
    return axes.places(keys), list(axes.shares)


def points_of(keys: Keys) -> Tensor:
    """Return vectors (n, d) whose squared distances are nearly those of the keys, as ``similarity`` defines them.

    They are exact for keys of content alone, and for two that have the same names. For other names they count as one
    axis each, weighted by the root of its share, and the relation counts in full.
    """
    if not keys.shape.relation:
        return keys.content
    row, slot = torch.nonzero(keys.word_shares, as_tuple=True)
    names, column = keys.word_codes[row, slot].unique(return_inverse=True)
    named = keys.content.new_zeros(len(keys), len(names))
    named.index_put_((row, column), keys.word_shares[row, slot], accumulate=True)
    return torch.cat([keys.content, 2 * named.clamp(min=0).sqrt(), 2**0.5 * keys.relation], 1) / 5**0.5
