"""Encoder models: the cached output of the frozen lower layers, which training skips at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ..backbones.batch import EncoderBatch
from ..backbones.contexts import record_calls, skip_layers
from ..hooks.blocks import Block, RowBlocks
from .frozen_prefix import reproduces, select_rows

if TYPE_CHECKING:
    from ..hooks.encoder_router import EncoderRouter


@dataclass(frozen=True)
class EncoderReplay:
    """Replay of an encoder-decoder or a classifier.

    Where the first edited layer is in the encoder, all layers from it on run again, the decoder included. Where it is
    in the decoder, the encoder's output is cached as a whole.

    Attributes:
        router: the model and its hooks.
        batch: the rows.
        skipped: the layers that do not run again; none without a cached prefix.
        output: what the last of them returned; ``None`` where there is none.
        encoded: (R, L, d) the encoder's output, where it is cached.
    """

    router: EncoderRouter
    batch: EncoderBatch
    skipped: list[nn.Module]
    output: Any = None
    encoded: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, router: EncoderRouter, batch: EncoderBatch, cached: bool) -> EncoderReplay:
        """Return the replay of a batch; if ``cached``, run the base model once and cache the lower layers' output.

        Where the layers run again do not reproduce the model's output, nothing is cached, with a warning.
        """
        whole = cls(router, batch, [])
        if not cached:
            return whole
        at, backbone = router.locations, router.backbone
        in_decoder = at.first_edited_stack > 0
        skipped: list[nn.Module] = list(backbone.stacks[at.first_edited_stack][1][: at.first_edited_layer])
        with record_calls(skipped[-1:] + ([backbone.prompt_encoder] if in_decoder else [])) as calls, router.disabled():
            expected = whole._target_logits()
        outputs = [call.output for call in calls]
        encoded = outputs.pop(0)[0] if in_decoder else None  # the encoder runs first
        replay = cls(router, batch, skipped, outputs[0] if outputs else None, encoded)
        with router.disabled():
            again = replay._target_logits()
        return replay if reproduces(again, expected) else whole

    @property
    def head(self) -> None:
        """No output embedding: the model is run as a whole."""

    def read(self, states: Tensor) -> Tensor:
        """Return the logits of states: they are logits already."""
        return states

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the target positions of R rows, given a block for each."""
        return self.states(blocks)

    def states(self, blocks: Block) -> Tensor:
        """Return the logits (M, V), which ``read`` leaves as they are."""
        rows = len(self.batch.rows)
        with self.router.use_blocks([RowBlocks(torch.arange(rows), [0] * rows, [0] * rows, blocks)]):
            return self._target_logits()

    def _target_logits(self) -> Tensor:
        backbone, batch = self.router.backbone, self.batch
        inputs = backbone.inputs(batch)
        if self.encoded is not None:
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=self.encoded)
        with skip_layers(self.skipped, self.output):
            logits = backbone.model(**inputs).logits
        if logits.dim() == 2:  # a classifier's: one answer a row
            logits = logits[:, None]
        return logits[batch.flat_rows.to(logits.device), batch.flat_columns.to(logits.device)]

    def select(self, picks: Tensor) -> EncoderReplay:
        """Return the replay of the rows with these numbers, ascending."""
        output, encoded = (select_rows(value, picks, len(self.batch.rows)) for value in (self.output, self.encoded))
        return EncoderReplay(self.router, self.batch.select(picks), self.skipped, output, encoded)
