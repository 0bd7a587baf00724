"""Plain LoRA: one adapter for all edits, trained on one edit after another (EasyEdit, ``models/lora/lora_main.py``).

The adapter is PEFT's, on PEFT's default modules for the model (query and value projections). Each call trains with a
new Adam optimiser on the cross-entropy of the target tokens. EasyEdit's configuration file asks for AdaLoRA; this is
plain LoRA with the same rank, alpha, dropout and learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...backbones.layers import linear_shape
from ...errors import MeloEditError
from ..changed import ChangedWeights
from ..free_memory import check_room
from ..settings import Settings
from ..trained import TrainedMethod, only_trains

if TYPE_CHECKING:
    from ...edit import Edit

ADAPTER = "edits"


@dataclass(frozen=True)
class LoraSettings(Settings):
    """Settings of the adapter.

    Attributes:
        rank: rank of A and B.
        alpha: the adapter is scaled by alpha / rank.
        dropout: share of inputs dropped while training.
        lr: Adam's learning rate.
        steps: most steps per call.
        enough: loss in nats at which training ends early; 0: never, as in EasyEdit.
    """

    from_zero = ("dropout", "enough")
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    lr: float = 5e-3
    steps: int = 70
    enough: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout >= 1:
            raise MeloEditError(f"dropout must be below 1, not {self.dropout:g}")


class Lora(TrainedMethod, ChangedWeights):
    """Trains one low-rank adapter for all edits."""

    name = "lora"
    Settings = LoraSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS
        except ImportError:
            raise MeloEditError("method lora needs the extra 'eval': pip install 'meloedit[eval]'") from None
        self.check_precision()
        kind = self.model.config.model_type
        if kind not in TARGETS:
            raise MeloEditError(f"method lora: PEFT knows no modules to adapt in a model of type {kind!r}")
        settings = self.settings
        modules = [module for name, module in self.model.named_modules() if name.rpartition(".")[2] in TARGETS[kind]]
        size = settings.rank * sum(sum(shape) for module in modules if (shape := linear_shape(module)) is not None)
        # the adapter, a copy to go back to, gradients, Adam's two moments; PEFT makes it of float32
        check_room(self.name, 5 * 4 * size, "its adapter", self.backbone.device)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(TARGETS[kind]),
        )
        self._trainable = [weight for weight in self.model.parameters() if weight.requires_grad]
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            inject_adapter_in_model(config, self.model, ADAPTER)
        self.keep({name: weight for name, weight in self.model.named_parameters() if "lora_" in name})
        self._dropouts = [
            module for name, module in self.model.named_modules() if name.endswith(f"lora_dropout.{ADAPTER}")
        ]

    def _edit(self, edits: Sequence[Edit]) -> None:
        settings, examples, weights = self.settings, self.examples(edits), list(self._weights.values())
        with torch.random.fork_rng(), only_trains(self.model, weights):
            # The number of edits alone counts, so that a resumed run drops the same inputs as an uninterrupted one.
            torch.manual_seed(settings.seed + 1 + len(self.edits))
            for dropout in self._dropouts:
                dropout.train()
            optimizer = torch.optim.Adam(weights, lr=settings.lr)
            for _ in range(settings.steps):
                loss = self.loss(examples)
                if loss.item() <= settings.enough:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            for dropout in self._dropouts:
                dropout.eval()

    def close(self) -> None:
        """Take the adapter out of the model."""
        from peft.tuners.lora import LoraLayer

        for name, module in [(n, m) for n, m in self.model.named_modules() if isinstance(m, LoraLayer)]:
            parent, _, leaf = name.rpartition(".")
            setattr(self.model.get_submodule(parent), leaf, module.get_base_layer())
        for weight in self._trainable:
            weight.requires_grad_(True)
