"""Fine-tuning of one layer's feed-forward output matrix, one edit after another (FT-M) or many at once (LocFT-BF).

With ``edits_per_call=1`` it is FT-M of EasyEdit (``models/ft/ft_main.py``, ``objective_optimization: target_new``):
Adam on one matrix and cross-entropy on all target tokens. A step is left out if its loss is below ``enough``; training
ends when the mean loss of a pass is. With more edits per call each pass goes over all of them in shuffled batches of
``batch_size``; the authors of LocFT-BF show that this order matters (arXiv 2509.22072).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...backbones.feed_forward import feed_forward_linear
from ...errors import MeloEditError
from ...training.trainer import seeded
from ..base import Size
from ..checkpoint import read_state, write_state
from ..settings import Settings
from ..trained import TrainedMethod, only_trains

if TYPE_CHECKING:
    from ...edit import Edit


@dataclass(frozen=True)
class FtSettings(Settings):
    """Settings of fine-tuning.

    Attributes:
        depth: relative depth of the trained layer in the last stack, from 0 to 1.
        lr: Adam's learning rate.
        passes: most passes over the edits of a call.
        batch_size: training examples per step.
        enough: loss in nats below which a step is left out.
    """

    any_sign = ("seed", "enough", "depth")
    depth: float = 0.7
    lr: float = 5e-4
    passes: int = 25
    batch_size: int = 100
    enough: float = 1e-2


class FineTuning(TrainedMethod):
    """Trains one matrix of the model, which all edits share."""

    name = "ft"
    Settings = FtSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix, layers = self.backbone.stacks[-1]
        if not 0 <= self.settings.depth <= 1:
            raise MeloEditError(f"method ft: depth must lie between 0 and 1, not {self.settings.depth:g}")
        place = f"{prefix}.{min(int(self.settings.depth * len(layers)), len(layers) - 1)}"
        self._name = feed_forward_linear(self.backbone, place)
        module: Any = self.model.get_submodule(self._name)
        self.weight: Any = module.weight
        self._original = self.weight.detach().clone()

    def _edit(self, edits: Sequence[Edit]) -> None:
        settings, examples = self.settings, self.examples(edits)
        generator = seeded(settings.seed, len(self.edits), self.name)
        # Several examples come in another order in each pass, so that the lower layers must run again.
        lower = self.run_lower_layers_once(self._name) if len(examples) == 1 else nullcontext()
        with only_trains(self.model, [self.weight]), lower:
            optimizer = torch.optim.Adam([self.weight], lr=settings.lr)
            for _ in range(settings.passes):
                losses: list[float] = []
                for part in torch.randperm(len(examples), generator=generator).split(settings.batch_size):
                    loss = self.loss([examples[i] for i in part.tolist()])
                    losses += [loss.item()] * len(part)
                    if loss.item() >= settings.enough:
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                if sum(losses) / len(losses) < settings.enough:
                    break

    def _reset(self) -> None:
        self._put(self._original)

    def _put(self, weight: Tensor) -> None:
        with torch.no_grad():
            self.weight.copy_(weight)

    def size(self) -> Size:
        """Return the size of the trained matrix."""
        number = self.weight.numel() if self.edits else 0
        return Size(number, number * self.weight.element_size())

    def checkpoint(self) -> dict[str, Any]:
        """Write the matrix."""
        return write_state(self.folder, {"weight": self.weight}, len(self.edits))

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the matrix."""
        self._put(read_state(self.folder, noted)["weight"])
        super().restore(noted, edits)
