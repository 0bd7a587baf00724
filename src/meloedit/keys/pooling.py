"""Pooling: how much the state of each token of a prompt weighs in its key."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .names import WordVectors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
from .names import _BLANKS, _BROKEN, _CONTINUES, LONGEST, UNHEARD, Word, read


class Pooling:
    """How much the state of each token of a prompt weighs: for what it says, and for what it asks.

    Args:
        token_weights: (V + 1,) weight of each token, the last that of all others; ``None``: all the same.
        words: how common words are; ``None``: what is asked is not looked at.
        tokenizer: whose tokens these are.
    """

    def __init__(
        self, token_weights: Tensor | None, words: WordVectors | None, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._token_weights, self._words, self._tokenizer = token_weights, words, tokenizer
        self._special = frozenset(tokenizer.all_special_ids) if words is not None else frozenset()
        self._texts: dict[tuple[int, ...], str] = {}

    @property
    def identity(self) -> list[list[float]]:
        """What the weights depend on, beside the tokenizer."""
        counts = self._words.counts if self._words is not None else None
        return [[] if one is None else one.tolist() for one in (self._token_weights, counts)]

    @property
    def pools(self) -> int:
        """How many means are taken of a prompt's states."""
        return 1 if self._words is None else 2

    def __call__(self, ids: Sequence[int], span: tuple[int, int]) -> Tensor:
        """Return the weights (pools, n) of the tokens ``ids[start:stop]``: as words, and those that are no names."""
        start, stop = span
        own = torch.ones(stop - start) if self._token_weights is None else self._weights(ids[start:stop])
        if self._words is None:
            return own[None]
        first = 0 if start <= 1 else start  # as the text of a key has it
        asked = torch.tensor(self._unnamed(ids[first:stop])[start - first :])
        return torch.stack([own, asked if asked.any() else torch.ones(stop - start)])

    def _weights(self, ids: Sequence[int]) -> Tensor:
        assert self._token_weights is not None
        return self._token_weights[torch.tensor(ids, dtype=torch.long).clamp(max=len(self._token_weights) - 1)]

    def _unnamed(self, ids: Sequence[int]) -> list[float]:
        """Return 1 for each token that is no part of a name."""
        assert self._words is not None
        texts, tokens = self._units(ids)
        marks = [1.0] * len(texts)
        ends, text = list(accumulate(map(len, texts))), "".join(texts)
        found = read(text, self._words)
        names = [word for word in found if word.name] or [word for word in found if self._unheard(text, word)]
        for word in names:
            first, last = bisect_right(ends, word.start), bisect_left(ends, word.stop)
            marks[first : last + 1] = [0.0] * (last + 1 - first)
        return (
            marks if len(marks) == len(ids) else [mark for mark, n in zip(marks, tokens, strict=True) for _ in range(n)]
        )

    def _unheard(self, text: str, word: Word) -> bool:
        """Return whether a word is taken for a name where none is written as one: ordinary prompts do not have it."""
        assert self._words is not None
        return self._words.count(text[word.start : word.stop].casefold()) <= UNHEARD

    def _units(self, ids: Sequence[int]) -> tuple[list[str], list[int]]:
        """Return the text of each token, and 1; of tokens that are parts of one character together, and how many."""
        texts = [self._text((token,)) for token in ids]
        if not any(text.endswith(_BROKEN) for text in texts):
            return texts, [1] * len(texts)
        joined, tokens, first = [], [], 0
        for last in range(len(ids)):
            text = self._text(tuple(ids[first : last + 1]))
            if not text.endswith(_BROKEN) or last + 1 - first == LONGEST or last + 1 == len(ids):
                joined.append(text)
                tokens.append(last + 1 - first)
                first = last + 1
        return joined, tokens

    def _text(self, tokens: tuple[int, ...]) -> str:
        if (text := self._texts.get(tokens)) is None:
            if tokens[0] in self._special:
                return ""
            text = str(self._tokenizer.decode(list(tokens)))
            piece = str(self._tokenizer.convert_ids_to_tokens(tokens[0]))
            if piece.startswith(_CONTINUES):
                text = text.removeprefix(_CONTINUES)
            elif piece.startswith(_BLANKS) and not text[:1].isspace():
                text = " " + text
            self._texts[tokens] = text
        return text


def weights_of(ids: Sequence[int], span: tuple[int, int], pooling: Pooling | None) -> Tensor:
    """Return how much the state of each token in a span weighs, (p, n); all the same without a ``pooling``."""
    return torch.ones(1, span[1] - span[0]) if pooling is None else pooling(ids, span)


def weighted_means(hidden: Tensor, weights: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """Return means (K, p d) of states (R, L, d), each weighing (p, K, L); zeros where nothing weighs.

    Args:
        hidden: the states.
        weights: how much each weighs in each mean.
        rows: (K,) the row that each mean is of; ``None``: one of each row.
    """
    weights = weights.to(hidden.device)
    pools, count, length = weights.shape
    rows, place, taken = range(len(hidden)) if rows is None else rows, [], Counter[int]()
    for row in rows:
        place.append(taken[row])  # which of its row's means each is
        taken[row] += 1
    of, at = torch.tensor(rows, device=hidden.device), torch.tensor(place, device=hidden.device)
    table = weights.new_zeros(pools, len(hidden), max(place, default=0) + 1, length)
    table[:, of, at] = weights
    # where, not a product alone: states at padding may be anything, and inf times zero is not zero
    states = torch.where((table > 0).any(2).any(0)[:, :, None], hidden.float(), 0.0)
    sums, total = torch.einsum("prml,rld->rmpd", table, states)[of, at], weights.sum(2).T[..., None]  # (K, p, d)
    return (sums / torch.where(total > 0, total, 1.0)).flatten(1)


@dataclass(frozen=True)
class PooledStates:
    """What the keys of some prompts are made of: of each as a whole, and of its sentences and lines.

    Attributes:
        states: (m, d) pooled states of the key layer; (m, 2 d) where what is asked is pooled beside them.
        texts: (m) the words that they are pooled over; empty where nothing says which these are.
        rows: (m) the prompt that each is of.
        count: how many prompts there are.
    """

    states: Tensor
    texts: Sequence[str]
    rows: Sequence[int]
    count: int


COMMON_TOKEN, RARE_TOKEN = 2.0, 7.5
"""Inverse document frequencies between which the weight of a token's state grows."""


FLOOR = 0.1
"""Weight of the states of common tokens."""


def token_weights(prompts: Iterable[Iterable[int]]) -> Tensor:
    """Return the weight of each token's state in a key (V + 1,), from ordinary prompts; the last is that of all others.

    w = FLOOR + min(1, max(0, (idf(token) - COMMON_TOKEN) / (RARE_TOKEN - COMMON_TOKEN))): names, which no edit shares
    with another question, count for more than the words of which all questions are made.
    """
    seen = [torch.tensor(sorted(set(ids))) for ids in prompts]
    counts = torch.bincount(torch.cat(seen))
    counts = torch.cat([counts, counts.new_zeros(1)])
    frequency = torch.log((len(seen) + 1) / (counts + 0.5))
    return FLOOR + ((frequency - COMMON_TOKEN) / (RARE_TOKEN - COMMON_TOKEN)).clamp(0, 1)
