"""Runs of a decoder-only model over some columns of a batch, with the prefix that all rows share run once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from .batch import CausalBatch

if TYPE_CHECKING:
    from .causal import CausalBackbone


def run_decoder(
    backbone: CausalBackbone, batch: CausalBatch, start: int, stop: int | None = None, cache: DynamicCache | None = None
) -> Tensor:
    """Run the model on columns ``start`` to ``stop``, and return the last hidden states (R, columns, d).

    Args:
        backbone: the model.
        batch: the batch.
        start: the first column to run.
        stop: the column after the last; ``None``: to the end.
        cache: keys and values of the columns before ``start``; the run adds its columns.
    """
    columns = slice(start, stop)
    inputs: dict[str, Any] = {"input_ids": batch.ids[:, columns], "attention_mask": batch.mask[:, :stop]}
    if "position_ids" in backbone.forward_names:
        inputs["position_ids"] = batch.positions[:, columns]
    if cache is not None:
        inputs["past_key_values"] = cache
    return backbone.decoder(**inputs, use_cache=cache is not None)[0]


def prefill_shared(backbone: CausalBackbone, batch: CausalBatch) -> DynamicCache | None:
    """Return a cache with the prefix that all rows share: run once, then repeated for every row.

    Returns:
        ``None`` for a model whose layers keep more than keys and values; its batches share no prefix.
    """
    if not backbone.only_keys_and_values:
        return None
    cache = DynamicCache()
    if batch.shared_prefix:
        one = batch.select(torch.tensor([0]))
        run_decoder(backbone, one, 0, batch.shared_prefix, cache)
        cache.batch_repeat_interleave(len(batch.rows))
    return cache
