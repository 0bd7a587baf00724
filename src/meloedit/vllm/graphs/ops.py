"""The two ops of an edited model: one takes the key layer's states out of a pass, one adds the blocks.

To the compiler they are opaque. Both have shapes that follow from their inputs' alone, and read nothing back from the
device, so that a CUDA graph can hold ``add_blocks``. ``take_states`` must run outside of graphs: what follows it, the
decision which edit answers, is no computation of the device's (``models.py`` has vLLM split its graphs there).

A token's row of ``rows`` names the slot of the block that acts on it, 0 none. Padding rows have 0, too.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import torch
from torch import Tensor

from ..start.checks import OP

TAKE, ADD = OP, "meloedit::add_blocks"


class Decider(Protocol):
    """What vLLM's forward context has under the name that ``take_states`` is given."""

    def decide(self, states: Tensor, rows: Tensor, places: Tensor) -> None:
        """Decide the routes of the prompts that end in the pass, and write which blocks act from here on."""


@torch.library.custom_op(TAKE, mutates_args=("states", "rows", "places"))
def take_states(
    hidden: Tensor, residual: Tensor | None, states: Tensor, rows: Tensor, places: Tensor, seat: str
) -> None:
    """Copy the key layer's states of a pass, and let the decider write which blocks act on its tokens.

    Args:
        hidden: (T, d) what the layer handed on.
        residual: (T, d) what the next layer's norm would add to it; ``None`` if the layer has added it.
        states: (N, d) with N >= T; the first T rows are written.
        rows: (N,) the slot of each token's block; the decider writes it.
        places: (N,) the column of P for each token; the decider writes it.
        seat: the decider's name in the forward context. Without one, as in a graph's capture, nothing is decided.
    """
    own = states[: hidden.shape[0]]
    if residual is None:
        own.copy_(hidden)
    else:
        torch.add(hidden, residual, out=own)
    if (found := _decider(seat)) is not None:
        found.decide(own, rows, places)


@take_states.register_fake
def _(hidden: Tensor, residual: Tensor | None, states: Tensor, rows: Tensor, places: Tensor, seat: str) -> None:
    return None


def _decider(seat: str) -> Decider | None:
    """Return what vLLM's forward context has under a name, as vLLM's own ops find their layer."""
    context: Any = sys.modules.get("vllm.forward_context")
    if context is None or not context.is_forward_context_available():
        return None
    found: Decider | None = context.get_forward_context().no_compile_layers.get(seat)
    return found


@torch.library.custom_op(ADD, mutates_args=("acted",))
def add_blocks(
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    places: Tensor,
    owners: Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    acted: Tensor,
) -> Tensor:
    """Return a module's output with B (A x + P e_place) added to the rows that a block acts on.

    The blocks stand side by side as one wide A and one wide B (arXiv 2312.11795, Eq. 7). Each row is multiplied with
    all of A, and keeps the columns of its own block: no factors are gathered per token, whose number may be thousands.
    Rows without a block are chosen from ``y``, not added to: they stay as they are to the bit, a -0.0 included.

    Args:
        x: (T, in) the module's input.
        y: (T, out) its output.
        rows: (N,) with N >= T: the slot of each token's block, 0 for none.
        places: (N,) the column of P for each token; column 0 is zero.
        owners: (W,) the slot that each column belongs to, -1 for a free one.
        a: (W, in) the wide A.
        b: (W, out) the wide B, transposed.
        p: (K + 1, W) the wide P, transposed.
        acted: (1,) int64, to which the number of rows with a block is added: from outside of compiled code, or of a
            CUDA graph, nothing else shows that the op has run.

    Returns:
        (T, out), a new tensor.
    """
    row = rows[: x.shape[0]]
    acted += (row > 0).sum()
    low = x.to(a.dtype) @ a.t() + p[places[: x.shape[0]]]
    low = torch.where(row[:, None] == owners, low, 0)
    return torch.where((row > 0)[:, None], y + (low @ b).to(y.dtype), y)


@add_blocks.register_fake
def _(
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    places: Tensor,
    owners: Tensor,
    a: Tensor,
    b: Tensor,
    p: Tensor,
    acted: Tensor,
) -> Tensor:
    return torch.empty_like(y)
