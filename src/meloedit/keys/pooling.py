"""Pooling: from the key layer's states of a prompt's tokens to the weighted means that its key is made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..callers.precision import exact
from ..types import Asked, Begun
from .names import Word, WordCounts, find_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COMMON_TOKEN, RARE_TOKEN = 2.0, 7.5
"""Inverse document frequencies between which the weight of a token's state grows."""
MIN_TOKEN_WEIGHT = 0.1
"""Weight of the states of common tokens."""
RARE_WORD_COUNT = 1
"""In a text without a written name, words that at most this many calibration prompts have count as names."""
MAX_TOKENS_PER_CHARACTER = 4
"""Tokens that the bytes of one character can be spread over."""

_BLANKS = ("\u0120", "\u2581")
"""How tokenizers write the blank before a word."""
_CONTINUES, _INCOMPLETE = "##", "\ufffd"


@dataclass(frozen=True)
class PooledStates:
    """Pooled hidden states of prompts and of their sentences, from which keys are computed.

    Attributes:
        states: (m, d) pooled states of the key layer; (m, 2 d) where the tokens of no name are pooled beside them.
        asked: (m) what each asks, in words; empty where the text is not known.
        rows: (m) the number of the prompt that each belongs to.
        count: how many prompts there are.
        after_tools: the numbers of the prompts in which a tool's result stands behind the question.
        begun: by prompt number, the answers that callers have begun.
    """

    states: Tensor
    asked: Sequence[Asked]
    rows: Sequence[int]
    count: int
    after_tools: frozenset[int] = frozenset()
    begun: Mapping[int, Begun] = field(default_factory=dict)


class Pooling:
    """Weighs the state of each token of a prompt: once for what it says, once for what it asks.

    Args:
        token_weights: (V + 1,) weight of each token, the last that of all others; ``None``: all weigh the same.
        counts: how common words are; ``None``: names are unused, so there is one mean and not two.
        tokenizer: the tokenizer of the model.
    """

    def __init__(
        self, token_weights: Tensor | None, counts: WordCounts | None, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._token_weights, self._counts, self._tokenizer = token_weights, counts, tokenizer
        self._special = frozenset(tokenizer.all_special_ids) if counts is not None else frozenset()
        self._texts: dict[tuple[int, ...], str] = {}

    @property
    def fingerprint(self) -> list[list[float]]:
        """Everything that the weights depend on, the tokenizer aside."""
        counts = self._counts.counts if self._counts is not None else None
        return [[] if part is None else part.tolist() for part in (self._token_weights, counts)]

    @property
    def pools(self) -> int:
        """How many means are taken of a prompt's states."""
        return 1 if self._counts is None else 2

    def __call__(self, ids: Sequence[int], span: tuple[int, int]) -> Tensor:
        """Return the weights (pools, n) of the tokens ``ids[start:stop]``: of all, and of those in no name."""
        start, stop = span
        by_rarity = (
            torch.ones(stop - start, dtype=torch.float32)
            if self._token_weights is None
            else self._weights(ids[start:stop])
        )
        if self._counts is None:
            return by_rarity[None]
        first = text_start(start)
        unnamed = torch.tensor(self._outside_names(ids[first:stop])[start - first :], dtype=torch.float32)
        return torch.stack([by_rarity, unnamed if unnamed.any() else torch.ones(stop - start, dtype=torch.float32)])

    def _weights(self, ids: Sequence[int]) -> Tensor:
        assert self._token_weights is not None
        return self._token_weights[torch.tensor(ids, dtype=torch.long).clamp(max=len(self._token_weights) - 1)]

    def _outside_names(self, ids: Sequence[int]) -> list[float]:
        """Return 1 for each token that is no part of a name, else 0."""
        assert self._counts is not None
        texts, tokens = self._characters(ids)
        marks = [1.0] * len(texts)
        ends, text = list(accumulate(map(len, texts))), "".join(texts)
        words = find_words(text, self._counts)
        for word in [word for word in words if word.is_name] or [word for word in words if self._is_rare(text, word)]:
            first, last = bisect_right(ends, word.start), bisect_left(ends, word.stop)
            marks[first : last + 1] = [0.0] * (last + 1 - first)
        if len(marks) == len(ids):
            return marks
        return [mark for mark, count in zip(marks, tokens, strict=True) for _ in range(count)]

    def _is_rare(self, text: str, word: Word) -> bool:
        assert self._counts is not None
        return self._counts.count(text[word.start : word.stop].casefold()) <= RARE_WORD_COUNT

    def _characters(self, ids: Sequence[int]) -> tuple[list[str], list[int]]:
        """Return texts of whole characters, and how many tokens each has: bytes of one character are joined."""
        texts = [self._text((token,)) for token in ids]
        if not any(text.endswith(_INCOMPLETE) for text in texts):
            return texts, [1] * len(texts)
        joined, tokens, first = [], [], 0
        for last in range(len(ids)):
            text = self._text(tuple(ids[first : last + 1]))
            length = last + 1 - first
            if not text.endswith(_INCOMPLETE) or length == MAX_TOKENS_PER_CHARACTER or last + 1 == len(ids):
                joined.append(text)
                tokens.append(length)
                first = last + 1
        return joined, tokens

    def _text(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens as it stands in a sentence, with the blank before it."""
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


def text_start(start: int) -> int:
    """Return where the text of a span begins: a key leaves the first token of a prompt out, its text does not."""
    return 0 if start <= 1 else start


def token_weights(prompts: Iterable[Iterable[int]]) -> Tensor:
    """Return the weight of each token's state in a key (V + 1,), from ordinary prompts; the last is that of all others.

    w = MIN_TOKEN_WEIGHT + min(1, max(0, (idf(token) - COMMON_TOKEN) / (RARE_TOKEN - COMMON_TOKEN))): names, which no
    edit shares with another question, weigh more than the words of which all questions are made.
    """
    seen = [torch.tensor(sorted(set(ids))) for ids in prompts]
    counts = torch.bincount(torch.cat(seen))
    counts = torch.cat([counts, counts.new_zeros(1)])
    frequency = torch.log((len(seen) + 1) / (counts.float() + 0.5))
    return MIN_TOKEN_WEIGHT + ((frequency - COMMON_TOKEN) / (RARE_TOKEN - COMMON_TOKEN)).clamp(0, 1)


def span_weights(ids: Sequence[int], span: tuple[int, int], pooling: Pooling | None) -> Tensor:
    """Return the weights (p, n) of the tokens in a span; all weigh the same without a ``pooling``."""
    return torch.ones(1, span[1] - span[0], dtype=torch.float32) if pooling is None else pooling(ids, span)


def weighted_means(hidden: Tensor, weights: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """Return means (K, p d) of states (R, L, d), each with weights (p, K, L); zeros where all weights are zero.

    Args:
        hidden: the states.
        weights: the weight of each state in each mean.
        rows: (K,) the row of each mean; ``None``: one mean per row.
    """
    weights = weights.to(hidden.device)
    pools, count, length = weights.shape
    rows, place, taken = range(len(hidden)) if rows is None else rows, [], Counter[int]()
    for row in rows:
        place.append(taken[row])  # the number of the mean among those of its row
        taken[row] += 1
    of, at = torch.tensor(rows, device=hidden.device), torch.tensor(place, device=hidden.device)
    table = weights.new_zeros(pools, len(hidden), max(place, default=0) + 1, length)
    table[:, of, at] = weights
    # where, and not a product alone: states at padding may be anything, and inf times zero is not zero
    states = torch.where((table > 0).any(2).any(0)[:, :, None], hidden.float(), 0.0)
    with exact(hidden.device):
        sums = torch.einsum("prml,rld->rmpd", table, states)[of, at]  # (K, p, d)
    total = weights.sum(2).T[..., None]
    return (sums / torch.where(total > 0, total, 1.0)).flatten(1)
