"""Rows of a cache that leave, and caches that become one: keys and values padded on the left to one length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache


def selected(cache: DynamicCache, rows: Sequence[int], cut: int) -> DynamicCache:
    """Return a cache with these rows alone, without its first ``cut`` columns."""
    picks = torch.tensor(list(rows))
    kept = DynamicCache()
    for number, layer in enumerate(cache.layers):
        keys, values = layer.keys, layer.values
        assert keys is not None and values is not None
        on = picks.to(keys.device)
        kept.update(keys[on, :, cut:], values[on, :, cut:], number)
    return kept


def joined(first: DynamicCache, second: DynamicCache) -> DynamicCache:
    """Return a cache with the rows of both, the shorter one padded on the left."""
    length = max(first.get_seq_length(), second.get_seq_length())
    both = DynamicCache()
    for number, (one, other) in enumerate(zip(first.layers, second.layers, strict=True)):
        assert one.keys is not None and one.values is not None and other.keys is not None and other.values is not None
        keys = torch.cat([padded(one.keys, length), padded(other.keys, length)])
        values = torch.cat([padded(one.values, length), padded(other.values, length)])
        both.update(keys, values, number)
    return both


def padded(states: Tensor, length: int) -> Tensor:
    """Pad keys or values (R, H, T, d) with zeros on the left to ``length`` columns."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


def padded_mask(mask: Tensor, length: int) -> Tensor:
    """Pad a mask (R, T) with zeros on the left to ``length`` columns."""
    return torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
