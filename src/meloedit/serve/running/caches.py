"""Rows of a cache that leave, and caches that become one: keys and values padded on the left to one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache


def selected(cache: DynamicCache, rows: Sequence[int], cut: int) -> DynamicCache:
    """Return a cache with these rows alone, without its first ``cut`` columns."""
    picks = torch.tensor(list(rows))
    kept = DynamicCache()
    for number, (keys, values) in enumerate(_layers(cache)):
        on = picks.to(keys.device)
        kept.update(keys[on, :, cut:], values[on, :, cut:], number)
    return kept


def joined(first: DynamicCache, second: DynamicCache) -> DynamicCache:
    """Return a cache with the rows of both, the shorter one padded on the left."""
    length = max(first.get_seq_length(), second.get_seq_length())
    both = DynamicCache()
    for number, (one, other) in enumerate(zip(_layers(first), _layers(second), strict=True)):
        keys, values = (torch.cat([_padded(a, length), _padded(b, length)]) for a, b in zip(one, other, strict=True))
        both.update(keys, values, number)
    return both


def _layers(cache: DynamicCache) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the keys and values (R, H, T, d) of each layer."""
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        assert isinstance(keys, Tensor) and isinstance(values, Tensor), "layers keep keys and values alone here"
        yield keys, values


def _padded(states: Tensor, length: int) -> Tensor:
    """Pad keys or values (R, H, T, d) with zeros on the left to ``length`` columns."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


def padded_mask(mask: Tensor, length: int) -> Tensor:
    """Pad a mask (R, T) with zeros on the left to ``length`` columns."""
    return torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
