"""MEMIT (arXiv 2210.07229) as in its authors' code (kmeng01/memit): many edits at once, spread over several layers.

For each edit a vector is found that the last edited layer must add to its output. Layer by layer, from the lowest, the
least-squares update of the feed-forward's matrix brings its share of what is still lacking. Settings have the authors'
names; the defaults are theirs for GPT-2 XL, with the layers at their relative depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import MeloEditError
from .closed_form import least_squares
from .method import LocatedMethod, LocatedSettings, Request
from .rows import Row, states_at


@dataclass(frozen=True)
class MemitSettings(LocatedSettings):
    """Settings of MEMIT.

    Attributes:
        layers: how many layers are edited.
        mom2_update_weight: weight of ordinary keys against the edits' keys.
    """

    edits_per_call: int = 100
    clamp_norm_factor: float = 0.75
    contexts: int = 5
    layers: int = 5
    mom2_update_weight: float = 20_000.0


class Memit(LocatedMethod):
    """Writes edits into the matrices of several layers, many at once."""

    name = "memit"
    Settings = MemitSettings
    lengths = ((10, 1),)
    starts = ("The", "Therefore", "Because", "I", "You")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = f"{self.prefix}.{self.last}"

    def _numbers(self) -> list[int]:
        first = self.last - self.settings.layers + 1
        if first < 0:
            raise MeloEditError(
                f"method {self.name}: {self.settings.layers} layers do not fit below layer {self.last}: "
                "lower layers, or raise depth"
            )
        return list(range(first, self.last + 1))

    def _write(self, requests: Sequence[Request]) -> None:
        place = self.model.get_submodule(self._place)
        found = [self.vector(request, place, self.last + 1) for request in requests]
        wanted = torch.stack([initial + vector for initial, vector in found], dim=1).double()
        rows = [self.rows(request) for request in requests]
        alone = [own[0] for own in rows]
        for i, module in enumerate(self.modules):
            keys = self._keys(module, rows)
            now = states_at(self.decoder, alone, {self._place: False}, self._place)[self._place].double().T
            lacking = (wanted - now) / (len(self.modules) - i)
            self.change(module, self._update(module, keys, lacking))

    def _keys(self, module: str, rows: Sequence[Sequence[Row]]) -> Tensor:
        """Return the keys (d, n) of requests, each half of the prompt alone and half of the prompt behind contexts."""
        flat = [row for own in rows for row in own]
        states = states_at(self.decoder, flat, {module: True}, module)[module].double()
        keys = []
        for own in states.split([len(own) for own in rows]):
            keys.append((own[0] + own[1:].mean(0)) / 2 if len(own) > 1 else own[0])
        return torch.stack(keys, dim=1)

    def _update(self, module: str, keys: Tensor, lacking: Tensor) -> Tensor:
        """Return the update of one matrix."""
        return least_squares(keys, lacking, self.moments[module], self.settings.mom2_update_weight)
