"""Growing tables of tensors, and exact distances between their rows, for the cluster index.

A table is a dictionary of columns: tensors of equal length, whose rows belong together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def append_row(table: dict[str, Tensor], **row: Tensor | float) -> None:
    """Append a row to a table in place; a column's storage doubles when it is full."""
    for name, value in row.items():
        column, count, rest = table[name], len(table[name]), table[name].shape[1:]
        if column.untyped_storage().nbytes() <= count * math.prod(rest) * column.element_size():
            column.resize_(2 * count + 8, *rest)
        column.resize_(count + 1, *rest)[count] = value


def drop_rows(table: dict[str, Tensor], rows: Tensor) -> None:
    """Drop the rows where a mask (n,) is true; the rest keep their order."""
    if rows.any():
        table.update({name: column[~rows] for name, column in table.items()})


def take(column: Tensor, rows: Tensor, missing: float) -> Tensor:
    """Return the values of a column at these rows, and ``missing`` for row -1."""
    return torch.cat([column, column.new_full((1,), missing)])[rows]


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Return |left - right| over the last dimension, in float32.

    The root is taken in float64, because a CPU does not always round the float32 root correctly.
    """
    return sum_by_halves((left - right).square_()).double().sqrt().float()


def sum_by_halves(values: Tensor) -> Tensor:
    """Sum over the last dimension by adding its second half to its first until one value is left.

    The order of additions, and so every bit of the sum, depends on nothing but the width. ``values`` is overwritten.
    """
    width = values.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        values[..., : width - half] += values[..., half:width]
        width = half
    return values[..., 0]
