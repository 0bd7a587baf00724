"""AlphaEdit (arXiv 2410.02355) as in its authors' code (jianghoucheng/AlphaEdit): MEMIT in the null space.

Each matrix changes only in directions in which the keys of ordinary text are next to nothing, and the keys of earlier
edits keep their values. Settings have the authors' names and defaults for GPT-2 XL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import MeloEditError
from .closed_form import in_null_space, null_space
from .memit import Memit, MemitSettings
from .method import Request

EARLIER = "earlier."
"""Begins the names of the sums of earlier keys in a checkpoint."""


@dataclass(frozen=True)
class AlphaEditSettings(MemitSettings):
    """Settings of AlphaEdit; ``mom2_update_weight`` has no part in it.

    Attributes:
        nullspace_threshold: second moment below which a direction is free. It is no share: it must fit the model.
        L2: the ridge of the least squares.
    """

    fixed = ("mom2_update_weight",)
    nullspace_threshold: float = 2e-2
    L2: float = 10.0


class AlphaEdit(Memit):
    """Writes edits into the null spaces of the matrices of several layers, many at once."""

    name = "alphaedit"
    Settings = AlphaEditSettings
    matrices = 3

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._projections: dict[str, Tensor] = {}
        self._earlier: dict[str, Tensor] = {}

    def _ready(self) -> None:
        super()._ready()
        if self._projections:
            return
        threshold = self.settings.nullspace_threshold
        for module, moment in self.moments.items():
            projection = null_space(moment, threshold)
            if not projection.any():
                least = torch.linalg.eigvalsh(moment)[0].item()
                raise MeloEditError(
                    f"method {self.name}: no direction of {module} is below nullspace_threshold {threshold:g}; the "
                    f"smallest second moment is {least:.2g}: raise it"
                )
            self._projections[module] = projection

    def _write(self, requests: Sequence[Request]) -> None:
        super()._write(requests)
        rows = [self.rows(request) for request in requests]
        for module in self.modules:  # all matrices have changed by now, and the keys with them
            keys = self._keys(module, rows)
            self._earlier[module] = self._sum(module) + keys @ keys.T

    def _update(self, module: str, keys: Tensor, lacking: Tensor) -> Tensor:
        return in_null_space(keys, lacking, self._projections[module], self._sum(module), self.settings.L2)

    def _sum(self, module: str) -> Tensor:
        earlier = self._earlier.get(module)
        return torch.zeros_like(self.moments[module]) if earlier is None else earlier

    def _reset(self) -> None:
        super()._reset()
        self._earlier = {}

    def _state(self) -> dict[str, Tensor]:
        return super()._state() | {EARLIER + module: value for module, value in self._earlier.items()}

    def _load(self, state: Mapping[str, Tensor], noted: Mapping[str, Any]) -> None:
        super()._load(state, noted)
        self._earlier = {
            name.removeprefix(EARLIER): value.to(self.backbone.device)
            for name, value in state.items()
            if name.startswith(EARLIER)
        }
