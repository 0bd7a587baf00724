"""The target vector: what must be added where the subject has been read so that the model goes on with the target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.contexts import frozen, run_once

if TYPE_CHECKING:
    from .rows import Rows

ENOUGH = 5e-2
"""Loss below which the authors' code ends."""


@dataclass(frozen=True)
class Search:
    """How the vector is looked for: names and meanings are those of the authors' configuration files.

    Attributes:
        v_num_grad_steps: passes; the last one only measures.
        v_lr: Adam's learning rate.
        v_weight_decay: weight of |d| / |v|^2, with d the vector, and v what it is added to.
        clamp_norm_factor: most length of d, in lengths of v.
        kl_factor: weight of the change of what follows "SUBJECT is a", as KL(after, before).
    """

    v_num_grad_steps: int
    v_lr: float
    v_weight_decay: float
    clamp_norm_factor: float
    kl_factor: float


@contextmanager
def _added(module: nn.Module, column: int, vector: Tensor, seen: list[Tensor]) -> Iterator[None]:
    """Add a vector to what a module writes at a column; keep what it wrote there, the first time."""

    def add(_: nn.Module, args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        if not seen:
            seen.append(states[:, column].detach().clone())
        here = torch.zeros(states.shape[1], 1, dtype=states.dtype, device=states.device)
        here[column] = 1
        changed = states + here * vector.to(states)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def find_vector(rows: Rows, module: nn.Module, below: int, search: Search) -> tuple[Tensor, Tensor]:
    """Look for the vector that, added to a module's output at the subject's last token, brings the target about.

    Args:
        rows: the rows; the first is the prompt alone. One has no target: its next token should stay as it is.
        module: the module.
        below: how many layers the vector does not touch; they run once.
        search: how to look for it.

    Returns:
        What the module writes there after the prompt alone, and the vector; both (d,).
    """
    backbone, seen = rows.backbone, list[Tensor]()
    width = backbone.model.config.get_text_config().hidden_size
    dtype = torch.promote_types(next(module.parameters()).dtype, torch.float32)
    vector = torch.zeros(width, dtype=dtype, device=backbone.device, requires_grad=True)
    optimizer = torch.optim.Adam([vector], lr=search.v_lr)
    before: Tensor | None = None
    with (
        frozen(backbone.model),
        torch.enable_grad(),
        run_once(backbone.layers[:below]),
        _added(module, rows.column, vector, seen),
    ):
        for step in range(search.v_num_grad_steps):
            given, free = rows.logits()
            after = free.to(dtype).log_softmax(1)
            before = after.detach() if before is None else before
            length = seen[0][0].to(dtype).norm()
            drift = nn.functional.kl_div(before, after, log_target=True, reduction="batchmean")
            loss = rows.loss([part.to(dtype) for part in given]) + search.kl_factor * drift
            loss = loss + search.v_weight_decay * vector.norm() / length**2
            if loss.item() < ENOUGH or step == search.v_num_grad_steps - 1:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                vector *= min(1.0, search.clamp_norm_factor * float(length) / max(float(vector.norm()), 1e-30))
    return seen[0][0].to(dtype), vector.detach()
