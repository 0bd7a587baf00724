"""KeyMaker: the keys of prompts and of edits under a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import ModelError
from ..hooks.router import Router
from ..hooks.state_reader import pooled_states
from ..keys.keys import Keys
from .calibration import Calibration
from .policy import Host, KeyTensors

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..edit import Edit


class KeyMaker:
    """Makes keys with a model's lower layers.

    Args:
        host: the model and its hooks. Only a ``Router`` runs prompts by themselves; others make no keys.
    """

    def __init__(self, host: Host) -> None:
        self._host, self._backbone = host, host.backbone

    @property
    def _router(self) -> Router:
        if not isinstance(self._host, Router):
            raise ModelError("keys are made where a model is loaded, which is not here: use an Editor")
        return self._host

    def of_prompts(self, calibration: Calibration, encoded: Sequence[Encoded]) -> Keys:
        """Return the keys (n,) of prompts."""
        pooling = calibration.encoder.pooling(self._backbone.tokenizer)
        states = pooled_states(self._router, encoded, pooling=pooling)
        return calibration.encoder.keys(states, self._router.reader.all_asked(encoded))

    def of_edits(self, calibration: Calibration, edits: Sequence[Edit]) -> list[KeyTensors]:
        """Return, per edit, the keys of its prompts, then of its quiet prompts (marked ``quiet``), in every form."""
        forms = [
            [
                [form for prompt in prompts for form in self._backbone.forms(prompt)]
                for prompts in (edit.prompts, edit.quiet)
            ]
            for edit in edits
        ]
        if not forms:
            return []
        keys = self.of_prompts(calibration, [form for pair in forms for part in pair for form in part])
        parts = keys.split([len(prompts) + len(quiet) for prompts, quiet in forms])
        return [
            part.clone().to_tensors() | {"quiet": torch.arange(len(part)) >= len(prompts)}
            for part, (prompts, _) in zip(parts, forms, strict=True)
        ]
