"""The frozen prefix of a causal model: computed once, and the layers above it, run again at every step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from ..backbones.batch import Batch, CausalBatch
from ..backbones.causal import CausalBackbone, prefill_shared, run_decoder
from ..hooks.blocks import Block, RowBlocks
from ..types import Reach

if TYPE_CHECKING:
    from ..hooks.router import Router

logger = logging.getLogger(__name__)


class Replay(Protocol):
    """Gives the target logits of a batch under any blocks, without running the frozen prefix again."""

    @property
    def batch(self) -> Batch:
        """The rows."""

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the target positions of R rows, every row with its own block."""

    def select(self, picks: Tensor) -> Replay:
        """Return the replay of some rows, ascending."""


@dataclass(frozen=True)
class CausalReplay:
    """Replay of a causal model; with ``prefix=None`` the whole model runs at every step.

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

    def logits(self, blocks: Block) -> Tensor:
        """Return the logits (M, V) at the target positions; they alone are computed."""
        batch, prefix = self.batch, self.prefix
        backbone: CausalBackbone = self.router.backbone  # type: ignore[assignment]
        offset = prefix.offset if prefix else 0
        rows, answer = len(batch.rows), batch.split - offset
        start = answer if self.reach == "answer" else 0
        row_blocks = RowBlocks(torch.arange(rows), [start] * rows, [answer] * rows, blocks)
        with self.router.fixed([row_blocks]):
            hidden = prefix.run(backbone) if prefix else run_decoder(backbone, batch, 0)
        at = batch.flat_rows.to(hidden.device), (batch.flat_columns - offset).to(hidden.device)
        return backbone.model.get_output_embeddings()(hidden[at])

    def select(self, picks: Tensor) -> CausalReplay:
        """Return the replay of some rows, ascending."""
        kept = self.prefix and self.prefix.select(picks)
        return CausalReplay(self.router, self.batch.select(picks), self.reach, kept)


RecordedCall = tuple[int, tuple[Any, ...], dict[str, Any]]
"""A layer's number, and the arguments it was called with beside the hidden states."""


class _PromptCache(DynamicCache):
    """Keys and values of the prompts at the layers that are run again; handed out, never added to."""

    def __init__(self, kept: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._kept = kept

    def update(  # type: ignore[override]
        self, keys: Tensor, values: Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the prompts' keys and values followed by the new ones."""
        old_keys, old_values = self._kept[layer]
        return torch.cat([old_keys, keys], dim=-2), torch.cat([old_values, values], dim=-2)


@dataclass
class CachedPrefix:
    """What a step needs of the layers below the first edited one, and of the prompts, for R rows.

    With ``reach="answer"`` a step runs the layers from the first edited one on the last prompt token and the target
    only (columns from ``offset``), over the prompts' cached keys and values; with ``reach="all"`` on all columns.

    Attributes:
        hidden: (R, L', d) input of the first layer that is run again.
        calls: how the model called these layers.
        kept: per layer number the prompts' keys and values; empty for ``reach="all"``.
        offset: first column that is run again.
        size: R.
    """

    hidden: Tensor
    calls: list[RecordedCall]
    kept: dict[int, tuple[Tensor, Tensor]]
    offset: int
    size: int

    @classmethod
    @torch.no_grad()
    def of(cls, router: Router, batch: CausalBatch, reach: Reach) -> CachedPrefix | None:
        """Run the base model once over the batch and keep what training needs.

        Returns:
            ``None``, with a warning, where the layers run again do not reproduce the model's own output; then training
            has to run the whole model at every step.
        """
        backbone: CausalBackbone = router.backbone  # type: ignore[assignment]
        layers = range(router.locations.first_edited_layer, len(backbone.layers))
        offset = batch.split if reach == "answer" else 0
        calls: list[RecordedCall] = []
        thread = threading.get_ident()

        def note(number: int) -> Any:
            def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if threading.get_ident() == thread:  # others may be using the model
                    calls.append((number, args, dict(kwargs)))

            return hook

        with router.disabled():
            cache, kept = None, {}
            if offset:
                cache = prefill_shared(backbone, batch)
                run_decoder(backbone, batch, batch.shared, offset, cache)
                stored: Any = cache.layers
                kept = {i: (stored[i].keys, stored[i].values) for i in layers}
            handles = [backbone.layers[i].register_forward_pre_hook(note(i), with_kwargs=True) for i in layers]
            try:
                own = run_decoder(backbone, batch, offset, None, cache)
            finally:
                for handle in handles:
                    handle.remove()
            _, args, kwargs = calls[0]
            hidden = args[0] if args else kwargs["hidden_states"]
            prefix = cls(hidden, [_without_hidden(call) for call in calls], kept, offset, len(batch.rows))
            again, real = prefix.run(backbone), batch.mask[:, offset:].bool()
            error = float((again - own)[real].abs().max() / own[real].abs().max())
        if error > (1e-4 if again.dtype == torch.float32 else 3e-2):
            logger.warning("running the upper layers again errs by %.1e: training runs the whole model instead", error)
            return None
        return prefix

    def run(self, backbone: CausalBackbone) -> Tensor:
        """Run the layers from the first edited one on; return what the output embedding reads, (R, L', d)."""
        hidden = self.hidden
        cache = _PromptCache(self.kept) if self.kept else None
        for number, args, kwargs in self.calls:
            now = {name: cache if isinstance(value, DynamicCache) else value for name, value in kwargs.items()}
            rest = [cache if isinstance(value, DynamicCache) else value for value in args]
            output = backbone.layers[number](hidden, *rest, **now)
            hidden = output if isinstance(output, Tensor) else output[0]
        return backbone.after_layers(hidden)

    def select(self, picks: Tensor) -> CachedPrefix:
        """Return the prefix of some rows."""
        if len(picks) == self.size:
            return self

        def pick(value: Any) -> Any:
            return of_rows(value, picks, self.size)

        calls = [
            (number, pick(args), {name: pick(value) for name, value in kw.items()}) for number, args, kw in self.calls
        ]
        return CachedPrefix(
            pick(self.hidden), calls, {i: pick(pair) for i, pair in self.kept.items()}, self.offset, len(picks)
        )


def of_rows(value: Any, picks: Tensor, size: int) -> Any:
    """Return some rows of every tensor of ``size`` rows in a value; what has another shape serves all rows."""
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == size:
        return value[picks.to(value.device)]
    return tuple(of_rows(item, picks, size) for item in value) if isinstance(value, tuple) else value


def _without_hidden(call: RecordedCall) -> RecordedCall:
    """Drop the hidden states from a layer's recorded arguments: each run puts its own there."""
    number, args, kwargs = call
    return number, args[1:], {name: value for name, value in kwargs.items() if name != "hidden_states"}
