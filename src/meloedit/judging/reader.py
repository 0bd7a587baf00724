"""PairReader: runs a judge's BERT on pairs, on no token more than its score needs.

Pairs that come together differ in length, and none is padded: their tokens stand one after another, and attention alone
knows which belong together. Of the last layer only [CLS] is computed, of which the score is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .pairs import PairTokens

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class _Norm(NamedTuple):
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class _Layer(NamedTuple):
    """One layer. Queries stand before keys and values, all heads of each side by side."""

    taken: _Linear
    given: _Linear
    norm: _Norm
    wide: _Linear
    narrow: _Linear
    last_norm: _Norm


class _Group(NamedTuple):
    """Pairs of one length: where their tokens begin, how many pairs they are, and how many tokens each has."""

    start: int
    pairs: int
    length: int

    def of(self, rows: Tensor) -> Tensor:
        """Return their part (pairs, length, d) of rows (T, d)."""
        return rows[self.start : self.start + self.pairs * self.length].view(self.pairs, self.length, -1)


class PairReader:
    """A BERT that gives one score.

    Args:
        model: it; its tensors are shared as far as they can be.
        device: where it runs.
    """

    def __init__(self, model: BertForSequenceClassification, device: torch.device) -> None:
        from transformers.activations import ACT2FN

        weights, config = model.state_dict(), model.config
        self._heads, self._act, self._device = config.num_attention_heads, ACT2FN[config.hidden_act], device
        epsilon = config.layer_norm_eps

        def linear(*names: str) -> _Linear:
            return _Linear(*(torch.cat([weights[f"{n}.{part}"] for n in names]).to(device) for part in _Linear._fields))

        def norm(name: str) -> _Norm:
            return _Norm(weights[f"{name}.weight"].to(device), weights[f"{name}.bias"].to(device), epsilon)

        def layer(at: str) -> _Layer:
            return _Layer(
                linear(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value"))),
                linear(f"{at}.attention.output.dense"),
                norm(f"{at}.attention.output.LayerNorm"),
                linear(f"{at}.intermediate.dense"),
                linear(f"{at}.output.dense"),
                norm(f"{at}.output.LayerNorm"),
            )

        self._words, self._places, self._types = (
            weights[f"bert.embeddings.{kind}_embeddings.weight"].to(device)
            for kind in ("word", "position", "token_type")
        )
        self._norm = norm("bert.embeddings.LayerNorm")
        self._layers = [layer(f"bert.encoder.layer.{i}") for i in range(config.num_hidden_layers)]
        self._pooler, self._score = linear("bert.pooler.dense"), linear("classifier")

    def __call__(self, pairs: Sequence[PairTokens]) -> Tensor:
        """Return the scores (n,) of n pairs, which come in the order of their lengths."""
        groups = list(_grouped([len(pair.ids) for pair in pairs]))
        firsts = torch.cat([torch.arange(one.pairs) * one.length + one.start for one in groups]).to(self._device)
        x = self._norm(self._embedded(pairs))
        *lower, last = self._layers
        for layer in lower:
            x = self._fed(layer, x, self._attended(layer.taken(x), groups))
        x = self._fed(last, x[firsts], self._attended(last.taken(x), groups, 1))
        scores: Tensor = self._score(torch.tanh(self._pooler(x)))[:, 0]
        return scores

    def _embedded(self, pairs: Sequence[PairTokens]) -> Tensor:
        ids = torch.tensor([token for pair in pairs for token in pair.ids])
        places = torch.tensor([place for pair in pairs for place in range(len(pair.ids))])
        types = torch.tensor([int(place >= pair.second) for pair in pairs for place in range(len(pair.ids))])
        ids, places, types = (each.to(self._device) for each in (ids, places, types))
        return self._words[ids] + self._types[types] + self._places[places]

    def _attended(self, taken: Tensor, groups: Sequence[_Group], most: int | None = None) -> Tensor:
        """Return what each token (T, d) attends to; with ``most`` only for so many tokens of each pair."""
        found = []
        for group in groups:
            heads = group.of(taken).unflatten(-1, (3, self._heads, -1))
            q, k, v = (each.transpose(1, 2) for each in heads.unbind(2))  # (pairs, heads, length, size)
            mixed = functional.scaled_dot_product_attention(q[:, :, :most], k, v)
            found.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(found)

    def _fed(self, layer: _Layer, x: Tensor, attended: Tensor) -> Tensor:
        x = layer.norm(x + layer.given(attended))
        return layer.last_norm(x + layer.narrow(self._act(layer.wide(x))))


def _grouped(lengths: Sequence[int]) -> Iterator[_Group]:
    start = 0
    for length, same in groupby(lengths):
        yield _Group(start, pairs := len(list(same)), length)
        start += pairs * length
