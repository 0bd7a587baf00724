"""Trains the vectors of one layer (norm scales and biases), in the way of BitFit (arXiv 2106.10199)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from meloedit import Edit
from meloedit.methods.changed import ChangedWeights
from meloedit.methods.settings import Settings
from meloedit.methods.trained import TrainedMethod, only_trains


@dataclass(frozen=True)
class VectorSettings(Settings):
    """The layer's relative depth from 0 to 1, Adam's learning rate, its steps."""

    shares = ("depth",)
    depth: float = 1.0
    lr: float = 0.05
    steps: int = 60


class Vectors(TrainedMethod, ChangedWeights):
    """All edits share the vectors, so that none can be removed alone."""

    name = "vectors"
    Settings = VectorSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Find the vectors, and note what they are without edits."""
        super().__init__(*args, **kwargs)
        prefix, number = self.layer_at(self.settings.depth)
        layer = self.model.get_submodule(f"{prefix}.{number}")
        self.keep({name: weight for name, weight in layer.named_parameters() if weight.dim() == 1})

    def _edit(self, edits: Sequence[Edit]) -> None:
        vectors, examples = list(self._weights.values()), self.examples(edits)
        with only_trains(self.model, vectors):
            adam = torch.optim.Adam(vectors, lr=self.settings.lr)
            for _ in range(self.settings.steps):
                adam.zero_grad()
                self.loss(examples).backward()
                adam.step()
