"""Changes of matrices as factors: a sum of outer products over tokens, for several edits side by side.

A matrix that changes by D' X writes (x X') D more where it is given x. So a pass with edited matrices needs no edited
matrix, and one pass serves many edits, each row with those of its own group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Factors(NamedTuple):
    """Changes of one matrix, by group.

    Attributes:
        given: X (G, N, in).
        written: D (G, N, out), the step's length included; zero beyond a group's rows.
    """

    given: Tensor
    written: Tensor

    def change(self, group: int = 0) -> Tensor:
        """Return the change (out, in) of a group."""
        return self.written[group].T @ self.given[group]


def grouped(rows: Tensor, groups: Tensor, count: int) -> Tensor:
    """Put rows of groups side by side.

    Args:
        rows: (n, d) the rows.
        groups: (n,) the group of each, in ascending order.
        count: G, how many groups there are.

    Returns:
        (G, N, d), with zeros behind the rows of a group that has fewer than N.
    """
    sizes = torch.bincount(groups, minlength=count)
    places = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[groups]
    most = int(sizes.max()) if len(rows) else 0
    return rows.new_zeros(count, most, rows.shape[1]).index_put((groups, places), rows)


@contextmanager
def adding(model: nn.Module, factors: Mapping[str, Factors], groups: Tensor) -> Iterator[None]:
    """Let modules write as their changed matrices would.

    Args:
        model: the model.
        factors: the changes, by the module's name.
        groups: (R,) the group of each row of the passes to come.
    """

    def add(name: str) -> Any:
        chosen = Factors(*(one[groups] for one in factors[name]))

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            states = args[0].to(chosen.given.dtype)
            return output + (states @ chosen.given.transpose(1, 2) @ chosen.written).to(output.dtype)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(add(name)) for name in factors]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
