"""Decoder-only models: the cached output of the frozen lower layers, and the layers above it, run at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..backbones.batch import CausalBatch
from ..backbones.causal import CausalBackbone
from ..backbones.contexts import Call, record_calls
from ..backbones.decoder_runs import prefill_shared, run_decoder
from ..hooks.blocks import Block, RowBlocks
from ..types import Reach
from .choice import plain_head
from .frozen_prefix import reproduces, select_rows

if TYPE_CHECKING:
    from ..hooks.router import Router


@dataclass(frozen=True)
class CausalReplay:
    """Replay of a decoder-only model; with ``prefix=None`` the whole model runs at every step.

    Attributes:
        router: the model and its hooks.
        batch: the rows.
        reach: whether the blocks act from the last prompt token on or on all tokens.
        prefix: the cached prefix of the same rows.
    """

    router: Router
    batch: CausalBatch
    reach: Reach
    prefix: CachedPrefix | None

    @property
    def head(self) -> nn.Linear | None:
        """The output embedding, where its logits can be computed for some tokens alone."""
        return plain_head(self.router.model)

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the target positions of R rows, given a block for each."""
        return self.read(self.states(blocks))

    def read(self, states: Tensor) -> Tensor:
        """Return the logits of states."""
        return cast(Tensor, self.router.model.get_output_embeddings()(states))

    def states(self, blocks: Block) -> Tensor:
        """Return what the output embedding reads (M, d) at the target positions of R rows, given a block for each."""
        batch, prefix = self.batch, self.prefix
        backbone = cast(CausalBackbone, self.router.backbone)
        first = prefix.first_column if prefix else 0
        rows, answer = len(batch.rows), batch.split - first
        start = answer if self.reach == "answer" else 0
        row_blocks = RowBlocks(torch.arange(rows), [start] * rows, [answer - row.place for row in batch.rows], blocks)
        with self.router.use_blocks([row_blocks]):
            hidden = prefix.run(backbone) if prefix else run_decoder(backbone, batch, 0)
        rows_at, columns_at = (index.to(hidden.device) for index in (batch.flat_rows, batch.flat_columns - first))
        return hidden[rows_at, columns_at]

    def select(self, picks: Tensor) -> CausalReplay:
        """Return the replay of the rows with these numbers, ascending."""
        prefix = self.prefix and self.prefix.select(picks)
        return CausalReplay(self.router, self.batch.select(picks), self.reach, prefix)


class LayerCall(NamedTuple):
    """How the model called a layer: the arguments beside the hidden states, which each run puts in front."""

    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, call: Call) -> LayerCall:
        """Return a recorded call without the hidden states."""
        return cls(call.module, call.args[1:], {n: v for n, v in call.kwargs.items() if n != "hidden_states"})

    def select(self, picks: Tensor, count: int, of_one: LayerCall) -> LayerCall:
        """Return the call with the rows of these numbers, of ``count``; ``of_one`` is the call of a batch of one."""
        kwargs = {n: select_rows(v, picks, count, of_one.kwargs.get(n)) for n, v in self.kwargs.items()}
        return LayerCall(self.layer, select_rows(self.args, picks, count, of_one.args), kwargs)


class _PromptCache(DynamicCache):
    """Keys and values of the prompts at the layers that run again. They are given out, and never added to."""

    def __init__(self, prompt_kv: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._prompt_kv = prompt_kv

    def update(  # type: ignore[override]
        self, keys: Tensor, values: Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the prompts' keys and values followed by the new ones."""
        prompt_keys, prompt_values = self._prompt_kv[layer]
        return torch.cat([prompt_keys, keys], dim=-2), torch.cat([prompt_values, values], dim=-2)


@dataclass
class CachedPrefix:
    """What a step needs from the layers below the first edited one, and from the prompts.

    With ``reach="answer"`` a step runs the layers from the first edited one on over the last prompt token and the
    target only (columns from ``first_column`` on), with the prompts' cached keys and values. With ``reach="all"``, and
    where layers keep more than keys and values, it runs them over all columns.

    Attributes:
        hidden: (R, L', d) input of the first layer that runs again.
        calls: how the model called the layers that run again.
        calls_of_one: how it called them for a batch of one row, which tells which arguments have rows.
        prompt_kv: per layer number the prompts' keys and values; empty where all columns run again.
        first_column: the first column that runs again.
        count: R, the number of rows.
    """

    hidden: Tensor
    calls: list[LayerCall]
    calls_of_one: list[LayerCall]
    prompt_kv: dict[int, tuple[Tensor, Tensor]]
    first_column: int
    count: int

    @classmethod
    @torch.no_grad()
    def of(cls, router: Router, batch: CausalBatch, reach: Reach) -> CachedPrefix | None:
        """Run the base model once over a batch, and cache what the steps need.

        Returns:
            ``None``, with a warning, where the layers run again do not reproduce the model's output. Then training has
            to run the whole model at every step.
        """
        backbone = cast(CausalBackbone, router.backbone)
        numbers = range(router.locations.first_edited_layer, len(backbone.layers))
        with router.disabled():
            cache, prompt_kv = prefill_shared(backbone, batch) if reach == "answer" else None, {}
            first = batch.split if cache is not None else 0
            if cache is not None:
                run_decoder(backbone, batch, batch.shared_prefix, first, cache)
                cached: Any = cache.layers
                prompt_kv = {i: (cached[i].keys, cached[i].values) for i in numbers}
            with record_calls([backbone.layers[i] for i in numbers]) as calls:
                expected = run_decoder(backbone, batch, first, None, cache)
            hidden = calls[0].args[0] if calls[0].args else calls[0].kwargs["hidden_states"]
            with record_calls([backbone.layers[i] for i in numbers]) as calls_of_one:
                run_decoder(backbone, batch.select(torch.tensor([0])), 0, 2)
            layer_calls, of_one = ([LayerCall.of(call) for call in group] for group in (calls, calls_of_one))
            prefix = cls(hidden, layer_calls, of_one, prompt_kv, first, len(batch.rows))
            again, real = prefix.run(backbone), batch.mask[:, first:].bool()
        return prefix if reproduces(again[real], expected[real]) else None

    def run(self, backbone: CausalBackbone) -> Tensor:
        """Run the layers from the first edited one on; return what the output embedding reads, (R, L', d)."""
        hidden = self.hidden
        cache = _PromptCache(self.prompt_kv) if self.prompt_kv else None
        for layer, args, kwargs in self.calls:
            rest = [cache if isinstance(value, DynamicCache) else value for value in args]
            named = {name: cache if isinstance(value, DynamicCache) else value for name, value in kwargs.items()}
            output = layer(hidden, *rest, **named)
            hidden = output if isinstance(output, Tensor) else output[0]
        return backbone.after_layers(hidden)

    def select(self, picks: Tensor) -> CachedPrefix:
        """Return the prefix of the rows with these numbers."""
        if len(picks) == self.count:
            return self

        hidden = select_rows(self.hidden, picks, self.count)
        pairs = zip(self.calls, self.calls_of_one, strict=True)
        calls = [call.select(picks, self.count, one) for call, one in pairs]
        prompt_kv = {i: select_rows(pair, picks, self.count) for i, pair in self.prompt_kv.items()}
        return CachedPrefix(hidden, calls, self.calls_of_one, prompt_kv, self.first_column, len(picks))
