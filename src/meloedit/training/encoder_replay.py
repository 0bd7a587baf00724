"""The frozen prefix of a model with a source: its lower layers are passed by at every step."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ..backbones.batch import EncoderBatch
from ..backbones.contexts import skip_layers
from ..hooks.blocks import Block, RowBlocks
from .replay import of_rows

if TYPE_CHECKING:
    from ..backbones import EncoderBackbone
    from ..hooks.router import Router

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderReplay:
    """Replay of an encoder-decoder or a classifier.

    Where the first edited layer is an encoder's, all above it runs again, the decoder included; where it is a
    decoder's, the encoder's output is kept whole.

    Attributes:
        router: the model and its hooks.
        batch: the rows.
        skipped: the layers that are passed by.
        output: what the last of them returned; ``None`` where none is.
        encoded: (R, L, d) the encoder's output, where that is kept.
    """

    router: Router
    batch: EncoderBatch
    skipped: list[nn.Module]
    output: Any = None
    encoded: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, router: Router, batch: EncoderBatch, cached: bool) -> EncoderReplay:
        """Run the base model once and keep the output below the first edited layer.

        Where the layers run again do not reproduce the model's own output, nothing is kept, with a warning.
        """
        if not cached:
            return cls(router, batch, [])
        at, backbone = router.locations, _source(router)
        skipped: list[Any] = list(backbone.stacks[at.first_edited_stack][1][: at.first_edited_layer])
        noted: list[Any] = []
        thread = threading.get_ident()

        def note(module: Any, args: Any, output: Any) -> None:
            if threading.get_ident() == thread:  # others may be using the model
                noted.append(output)

        watched = skipped[-1:] + ([backbone.prompt_encoder] if at.first_edited_stack else [])
        handles = [module.register_forward_hook(note) for module in watched]
        try:
            with router.disabled():
                own = cls(router, batch, [])._flat_logits()
        finally:
            for handle in handles:
                handle.remove()
        encoded = noted.pop(0)[0] if at.first_edited_stack else None  # the encoder runs first
        replay = cls(router, batch, skipped, noted[0] if noted else None, encoded)
        with router.disabled():
            error = float((replay._flat_logits() - own).abs().max() / own.abs().max())
        if error > (1e-4 if own.dtype == torch.float32 else 3e-2):
            logger.warning("running the upper layers again errs by %.1e: training runs the whole model instead", error)
            return cls(router, batch, [])
        return replay

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the target positions of R rows, every row with its own block."""
        rows = len(self.batch.rows)
        with self.router.fixed([RowBlocks(torch.arange(rows), [0] * rows, [0] * rows, blocks)]):
            return self._flat_logits()

    def _flat_logits(self) -> Tensor:
        backbone, batch = _source(self.router), self.batch
        inputs = backbone.inputs(batch)
        if self.encoded is not None:
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=self.encoded)
        with skip_layers(self.skipped, self.output):
            logits = backbone.model(**inputs).logits
        if logits.dim() == 2:  # a classifier's: one answer a row
            logits = logits[:, None]
        return logits[batch.flat_rows.to(logits.device), batch.flat_columns.to(logits.device)]

    def select(self, picks: Tensor) -> EncoderReplay:
        """Return the replay of some rows, ascending."""
        output, encoded = (of_rows(value, picks, len(self.batch.rows)) for value in (self.output, self.encoded))
        return EncoderReplay(self.router, self.batch.select(picks), self.skipped, output, encoded)


def _source(router: Router) -> EncoderBackbone:
    return router.backbone  # type: ignore[return-value]
