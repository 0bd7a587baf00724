"""Rows that train together: the layers below the added neurons run once for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.batch import Example, of_like_length
from ...backbones.contexts import record_calls, skip_layers

if TYPE_CHECKING:
    from ...backbones.base import Backbone


@dataclass(frozen=True)
class Part:
    """Rows in one batch, with what the layers below the first place gave for them.

    Attributes:
        backbone: the model.
        rows: R rows, each a prompt with its target.
        kept: for each stack the layers that do not run again, and what the last of them returned.
        targets: (M,) the target tokens of all rows.
    """

    backbone: Backbone
    rows: list[Example]
    kept: list[tuple[list[nn.Module], Any]]
    targets: Tensor

    @classmethod
    def of(cls, backbone: Backbone, rows: Sequence[Example], module: str) -> Part:
        """Run the layers below a module's layer once."""
        stack, layer = backbone.layer_of(module)
        groups = [list(layers) for _, layers in backbone.stacks[:stack]] + [list(backbone.stacks[stack][1][:layer])]
        groups = [group for group in groups if group]
        with torch.no_grad(), record_calls([group[-1] for group in groups]) as calls:
            backbone.target_logits(rows)
        outputs = {id(call.module): call.output for call in calls}
        kept: list[tuple[list[nn.Module], Any]] = [(group, outputs[id(group[-1])]) for group in groups]
        targets = torch.tensor([token for row in rows for token in row.target], device=backbone.device)
        return cls(backbone, list(rows), kept, targets)

    def logits(self) -> Tensor:
        """Return the logits (M, V) that predict the target tokens of all rows, in their order."""
        with ExitStack() as skipped:
            for layers, output in self.kept:
                skipped.enter_context(skip_layers(layers, output))
            return torch.cat(list(self.backbone.target_logits(self.rows)))


def packed(backbone: Backbone, rows: Sequence[Example], size: int, module: str) -> list[Part]:
    """Return rows in parts of at most ``size`` rows of like length, each with the layers below a module run once."""
    return [Part.of(backbone, [rows[i] for i in group], module) for group in of_like_length(rows, size)]


def predicting(backbone: Backbone, rows: Sequence[Example], states: Tensor) -> list[Tensor]:
    """Return per row the states (T, d) at the tokens that predict its target, of a run of ``target_logits``.

    Args:
        backbone: the model.
        rows: the rows, R.
        states: (R, L, d) what a module of the last stack was given.
    """
    follows = backbone.answer_follows_prompt
    starts = [len(row.prompt) - 1 if follows else 0 for row in rows]
    return [states[i, start : start + len(row.target)] for i, (row, start) in enumerate(zip(rows, starts, strict=True))]
