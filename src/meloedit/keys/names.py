"""The names in a prompt, which tell what it is about, and the tokens besides, which tell what is asked of it."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from unicodedata import category, combining, normalize

import torch
from torch import Tensor

SLOTS = 24
"""Words of a text that its key holds: names first, then the rarest."""
CODES = 2**24 - 1
"""Numbers that stand for words, from 1 on: float32 holds each of them exactly."""
UNHEARD = 1
"""Ordinary prompts that have a word, at most, which asks nothing in a text without names."""
OPENING = 5.0
"""Inverse document frequency from which a word is a name that begins a sentence, where any word has a capital."""

_MARKS = "".join(chr(code) for code in range(0x300, 0x20000) if category(chr(code)) in ("Mn", "Mc", "Me"))
# Scripts that put no blanks between words: Thai to Burmese, Khmer, kana, ideographs. There every character is one.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|[{_MARKS}])*")
"""A word, with the accents that follow its letters as characters of their own."""
_PLAIN_WORD = re.compile(r"\w+")
"""A word, where prompts are counted that have it."""
_BREAK = re.compile(r"[.?!:][\"')\]\u201d\u2019]*\s|\n")
_BLANKS = ("\u0120", "\u2581")
_CONTINUES, _BROKEN = "##", "\ufffd"
LONGEST = 4
"""Tokens that a character's bytes can be spread over."""


class Word(NamedTuple):
    """A word: where it stands, itself in lower case without accents, its weight, and whether it is (part of) a name."""

    start: int
    stop: int
    text: str
    idf: float
    name: bool


def read(text: str, words: WordVectors) -> list[Word]:
    """Return the words of a text in their order.

    A name is a word with a capital inside a sentence, or with digits, if it is not one that most prompts have.
    """
    found: list[Word] = []
    for match in _WORD.finditer(text):
        raw, start = match.group(), match.start()
        folded = raw.casefold() if raw.isascii() else normalize("NFC", raw.casefold())
        idf = words.idf(folded)
        name = idf > COMMON and (
            (raw[0].isupper() and (idf >= OPENING or not _begins(text, found, start)))
            or (not raw.isalpha() and any(map(str.isdigit, raw)))
        )
        found.append(Word(start, match.end(), bare(folded), idf, name))
    return found


def _begins(text: str, before: Sequence[Word], start: int) -> bool:
    """Return whether a word that stands at ``start`` begins a sentence or a line."""
    return not before or _BREAK.search(text, before[-1].stop, start) is not None


def bare(word: str) -> str:
    """Return a word without accents, which people leave out: "Sao Paulo" names "São Paulo"."""
    return word if word.isascii() else "".join(c for c in normalize("NFKD", word) if not combining(c))


def shares(text: str, words: WordVectors) -> dict[str, float]:
    """Return the words of a text, at most ``SLOTS``, each with its share in the names.

    The shares add up to 1: inverse document frequencies over their sum, of the names where there are any, else of all
    words but the common ones.
    """
    own = {word.text: word for word in sorted(read(text, words), key=lambda word: word.name)}
    heard = [word for word in own.values() if word.idf > COMMON] or list(own.values())
    heard = sorted(heard, key=lambda word: (not word.name, -word.idf))[:SLOTS]
    some = any(word.name for word in heard)
    weights = [max(word.idf, 1e-3) * (word.name or not some) for word in heard]
    return {word.text: weight / sum(weights) for word, weight in zip(heard, weights, strict=True)}


def named(texts: Sequence[str], words: WordVectors) -> Tensor:
    """Return the words of texts (n, 2 SLOTS): numbers that stand for them, then the share of each in the names."""
    made = torch.zeros(len(texts), 2 * SLOTS)
    for row, text in enumerate(texts):
        own: dict[int, float] = {}
        # All texts of signs alone have the same word; what is empty, a text that is not known, has none.
        for word, share in (shares(text, words) or ({"": 1.0} if text.strip() else {})).items():
            code = 1 + code_of(word) % CODES
            own[code] = own.get(code, 0.0) + share
        made[row, : len(own)] = torch.tensor(list(own), dtype=torch.float32)
        made[row, SLOTS : SLOTS + len(own)] = torch.tensor(list(own.values()))
    return made


COUNTERS = 16_384
"""Counters of how many prompts have a word."""


COMMON = 2.5
"""What is taken off a word's weight: words that one prompt in twelve has, or more, weigh nothing."""


REMEMBERED = 50_000
"""Words whose frequency is remembered."""


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


def words_of(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(_PLAIN_WORD.findall(text.casefold()))


def code_of(word: str) -> int:
    """Return a number that stands for a word, the same one everywhere."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))
