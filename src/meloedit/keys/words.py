"""Which words a prompt has: rare ones, such as names, tell more of what it asks than common ones do."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

COUNTERS = 16_384
"""Counters of how many prompts have a word."""
COMMON = 2.5
"""What is taken off a word's weight: words that one prompt in twelve has, or more, weigh nothing."""
REMEMBERED = 50_000
"""Words whose frequency is remembered."""
COMMON_TOKEN, RARE_TOKEN = 2.0, 7.5
"""Inverse document frequencies between which the weight of a token's state grows."""
FLOOR = 0.1
"""Weight of the states of common tokens."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class WordVectors:
    """How many of n ordinary prompts have a word, and so how rare it is.

    idf(w) = log((n + 1) / (n_w + 1/2)), where n_w of n prompts have the word w: the inverse document frequency of text
    retrieval. Words are folded to lower case.

    Attributes:
        counts: (1 + COUNTERS,) n, then n_w for the words of each counter.
    """

    counts: Tensor
    _frequencies: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> WordVectors:
        """Count the words of ordinary prompts."""
        counts = torch.zeros(1 + COUNTERS)
        counts[0] = len(texts)
        for text in texts:
            for counter in {code_of(word) % COUNTERS for word in words_of(text)}:
                counts[1 + counter] += 1
        return cls(counts)

    def count(self, word: str) -> int:
        """Return how many of the prompts have a word in lower case, or one that shares its counter."""
        return int(self.counts[1 + code_of(word) % COUNTERS])

    def idf(self, word: str) -> float:
        """Return the inverse document frequency of a word in lower case."""
        if (found := self._frequencies.get(word)) is None:
            found = math.log((float(self.counts[0]) + 1) / (self.count(word) + 0.5))
            if len(self._frequencies) < REMEMBERED:
                self._frequencies[word] = found
        return found


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


def words_of(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(_WORD.findall(text.casefold()))


def code_of(word: str) -> int:
    """Return a number that stands for a word, the same one everywhere."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))
