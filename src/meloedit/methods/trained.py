"""What methods that train weights share: the loss, which weights may change, and how to run the others less often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import Example
from ..backbones.contexts import frozen, run_once
from ..errors import MeloEditError
from .base import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TrainedMethod(Method):
    """A method that trains weights on the examples of its edits."""

    def check_precision(self) -> None:
        """Raise a MeloEditError if the model is of float16: gradients overflow there, and Adam's small moments vanish.

        Measured on a T5: of eight edits `cmr` held two and `lora` none, its weights no longer numbers; in float32 both
        held all eight.
        """
        if self.model.dtype == torch.float16:
            raise MeloEditError(
                f"method {self.name} cannot train a model of float16: load it as float32 (--dtype float32)"
            )

    def run_lower_layers_once(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which the layers below a module run once, for many passes over the same examples.

        Training that changes nothing below the module thus gets the same values in less time.
        """
        stack, layer = self.backbone.layer_of(name)
        stacks = [layers for _, layers in self.backbone.stacks[: stack + 1]]
        return run_once([each for layers in stacks[:-1] for each in layers] + list(stacks[-1][:layer]))

    def loss(self, examples: Sequence[Example]) -> Tensor:
        """Return the mean over examples of the mean cross-entropy of their target tokens, in nats."""
        losses = [
            torch.nn.functional.cross_entropy(logits.float(), torch.tensor(example.target, device=logits.device))
            for logits, example in zip(self.backbone.target_logits(examples), examples, strict=True)
        ]
        return torch.stack(losses).mean()


@contextmanager
def only_trains(model: PreTrainedModel, weights: Sequence[Tensor]) -> Iterator[None]:
    """Let gradients reach these weights alone, without dropout in the base model."""
    with frozen(model), torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(False)
                weight.grad = None
