"""Fine-tuning of one layer's feed-forward output matrix, one edit after another (FT-M) or many at once (LocFT-BF).

With ``edits_per_call=1`` it is FT-M of EasyEdit (``models/ft/ft_main.py``, ``objective_optimization: target_new``):
Adam on one matrix and cross-entropy on all target tokens. A step is left out if its loss is below ``enough``; training
ends when the mean loss of a pass is. With more edits per call each pass goes over all of them in shuffled batches of
``batch_size``; the authors of LocFT-BF show that this order matters (arXiv 2509.22072).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...backbones.feed_forward import feed_forward_linear
from ...training.trainer import seeded
from ..changed import ChangedWeights
from ..free_memory import check_room
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

    from_zero = ("enough",)
    shares = ("depth",)
    depth: float = 0.7
    lr: float = 5e-4
    passes: int = 25
    batch_size: int = 100
    enough: float = 1e-2


class FineTuning(TrainedMethod, ChangedWeights):
    """Trains one matrix of the model, which all edits share."""

    name = "ft"
    Settings = FtSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix, number = self.layer_at(self.settings.depth)
        self._name = feed_forward_linear(self.backbone, f"{prefix}.{number}")
        module: Any = self.model.get_submodule(self._name)
        self.weight: Any = module.weight
        self.keep({"weight": self.weight})

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice to train the matrix."""
        check_room(self.name, 3 * self.weight.nbytes, "a gradient and Adam's moments", self.backbone.device)

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
