"""Decoder-only causal language models: prompt and answer in one sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ..errors import ModelError
from .base import Backbone
from .batch import Batch, CausalBatch, EncoderBatch, Example, batches
from .contexts import own_run, reading_only, record_calls
from .decoder_runs import prefill_shared, run_decoder
from .layers import decoder_layers
from .prompts.causal import CausalPrompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class CausalBackbone(CausalPrompts, Backbone):
    """A decoder-only causal language model and its tokenizer.

    Attributes:
        only_keys_and_values: whether keys and values are all that a layer keeps of the tokens before. A state-space
            mixer or a convolution keeps a state, which cannot be taken back to an earlier token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        Backbone.__init__(self, model, tokenizer)
        self.stacks = [decoder_layers(model)]
        self.layers = self.stacks[0][1]
        most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        CausalPrompts.__init__(self, tokenizer, self._end_tokens(), most)
        self.pad_id = self.stop_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._check_causal()
        self._after, self.only_keys_and_values = self._follow_decoder()

    @property
    def decoder(self) -> nn.Module:
        """The model below its output embedding."""
        decoder: nn.Module = self.model.get_decoder()
        # A class whose own name for the decoder transformers does not know returns itself.
        return decoder if decoder is not self.model else self.model.get_submodule(self.stacks[0][0].rpartition(".")[0])

    @property
    def counts_columns(self) -> bool:
        """Whether padding between a row's tokens would change its output.

        It would in a sliding window, where a layer keeps a state, and in a model that takes no position ids.
        """
        config = self.model.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
        kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
        moved = any(windows) or bool(kinds) or "position_ids" not in self.forward_names
        return moved or not self.only_keys_and_values

    @property
    def rows_can_join(self) -> bool:
        """Whether a prompt can join answers under way in one batch: padding on its left would not change its output.

        It would where a layer keeps a state, where a model counts positions by itself, and where the columns that a
        token sees are cut into chunks.
        """
        chunked = getattr(self.model.config.get_text_config(), "attention_chunk_size", None)
        return self.only_keys_and_values and not chunked and "position_ids" in self.forward_names

    def after_layers(self, hidden: Tensor) -> Tensor:
        """Apply the modules between the last layer and the output embedding (the final norm) to states (..., d)."""
        for module in self._after:
            hidden = module(hidden)
        return hidden

    def _check_causal(self) -> None:
        """Refuse a model whose tokens see later ones: transformers loads encoders as causal models, too."""
        ids = torch.full((2, 4), self.stop_ids[0], device=self.device)
        ids[1, 3] = 0 if self.stop_ids[0] else 1
        with own_run(self.model):
            one, other = self.model(input_ids=ids).logits[:, :3].float()
        if one.is_meta:  # no numbers to compare
            return
        if not torch.allclose(one, other, atol=1e-2, rtol=1e-2):
            raise ModelError(f"{type(self.model).__name__} is not a causal language model: its tokens see later ones")

    def _follow_decoder(self) -> tuple[list[nn.Module], bool]:
        """Return, from a recorded call, what runs after the last layer, and whether layers keep only keys and values.

        What runs after it is a list of children of the decoder.

        Raises:
            ModelError: if the model's cache does not say how many tokens it has seen, which a route goes by.
        """
        last = self.layers[-1]
        children = [child for child in self.decoder.children() if child is not self.layers]
        with own_run(self.model), record_calls([*children, last]) as calls:
            ids = torch.full((1, 2), self.stop_ids[0], device=self.device)
            cache = getattr(self.decoder(input_ids=ids, use_cache=True), "past_key_values", None)
        if not isinstance(cache, Cache) or cache.get_seq_length() != 2:
            raise ModelError(f"the cache of {type(self.model).__name__} does not count tokens, which a route goes by")
        after: list[nn.Module] = []
        for call in calls:
            after = [] if call.module is last else [*after, call.module]
        kinds = (DynamicLayer, DynamicSlidingWindowLayer)  # not a subclass, which may keep a state beside them
        seen = [layer.get_seq_length() for layer in cache.layers if isinstance(layer, kinds) and type(layer) in kinds]
        return after, seen == [2] * len(self.layers)

    # -- running

    def pad(self, rows: Sequence[Example]) -> Batch:
        """Pad rows, in their order, into one batch."""
        return CausalBatch.of(rows, self.pad_id, self.device)

    def pack(self, rows: Sequence[Example], size: int) -> list[tuple[list[int], Batch]]:
        """Pack rows into batches; rows with the same template prefix go together, so that it is computed once."""
        # Padding follows a shared prefix, so none is shared where padding between tokens changes the output.
        return batches(rows, self.pad_id, self.device, size, share=not self.counts_columns)

    def key_run(self, batch: Batch) -> Callable[[], object]:
        """Run the shared prefix of a batch's prompts, and return a function that runs the rest."""
        if isinstance(batch, EncoderBatch):
            return partial(self.model, input_ids=batch.ids, attention_mask=batch.mask)
        return partial(run_decoder, self, batch, batch.shared_prefix, None, prefill_shared(self, batch))

    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Generate after each prompt."""
        assert isinstance(batch, CausalBatch)
        width = batch.ids.shape[1]
        room = settings["max_new_tokens"] if self.max_length is None else self.max_length - width
        generate: Any = self.model.generate
        limits = {"max_new_tokens": min(settings["max_new_tokens"], room)}
        generated = generate(batch.ids, attention_mask=batch.mask, **dict(settings) | limits)
        return self._until_stop(generated[:, width:].tolist())

    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (T, vocabulary) that predict each row's target."""
        inputs = self._on_the_right(rows)
        first, width = min(len(row.prompt) for row in rows) - 1, inputs["input_ids"].shape[1]
        logits_range = {"logits_to_keep": torch.arange(first, width)} if "logits_to_keep" in self.forward_names else {}
        logits = self.model(**inputs, **logits_range, use_cache=False).logits
        starts = [len(row.prompt) - 1 - (first if logits_range else 0) for row in rows]
        return [logits[i, start : start + len(rows[i].target)] for i, start in enumerate(starts)]

    def narrow_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Return what ``target_logits`` does, up to rounding; the output embedding reads those positions alone.

        Among rows of unlike length ``logits_to_keep`` keeps many others, and each costs as much as several layers.
        """
        places = [(i, len(row.prompt) - 1 + k) for i, row in enumerate(rows) for k in range(len(row.target))]
        at = torch.tensor(places, device=self.device).unbind(1)
        with reading_only(self.model.get_output_embeddings(), at) as narrowed:
            logits = self.model(**self._on_the_right(rows), use_cache=False).logits
        return list((logits[0] if narrowed else logits[at]).split([len(row.target) for row in rows]))

    def _on_the_right(self, rows: Sequence[Example]) -> dict[str, Any]:
        """Return rows, padded on the right, as the model's arguments."""
        width = max(len(row.prompt) + len(row.target) - 1 for row in rows)
        ids, mask = torch.full((len(rows), width), self.pad_id), torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.tensor([*row.prompt, *row.target[:-1]])
            ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
