"""Names: which words of a text are names, how rare its words are, and the word part of its key."""

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

from ..types import Asked
from .function_words import FUNCTION_WORDS
from .keys import MAX_WORDS

WORD_CODES = 2**24 - 1
"""Numbers that stand for words, from 1 on."""
COUNTERS = 16_384
"""Counters of how many prompts have a word; words share one where their hashes meet."""
COMMON = 2.5
"""Inverse document frequency up to which a word is never a name: one prompt in twelve, or more, has it."""
SENTENCE_START_IDF = 5.0
"""Inverse document frequency from which the first word of a sentence is a name, though any word has a capital there."""
MIN_PLURAL = 3
"""Letters that a word must have more than for its last s to be a plural's."""
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "ŧ": "t", "ħ": "h"}
)
"""Letters that NFKD leaves whole."""
CACHED_WORDS = 50_000
"""Words whose frequency is cached."""

_MARKS = "".join(chr(code) for code in range(0x300, 0x20000) if category(chr(code)) in ("Mn", "Mc", "Me"))
# Scripts that put no blanks between words: Thai to Burmese, Khmer, kana, ideographs. There every character is one.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|[{_MARKS}])*")
"""A word, with the accents that follow its letters as characters of their own."""
_COUNTED_WORD = re.compile(r"\w+")
"""A word as ordinary prompts are counted by."""
_SENTENCE_BREAK = re.compile(r"[.?!:][\"')\]\u201d\u2019]*\s|\n")


@dataclass(frozen=True)
class WordCounts:
    """How many of n ordinary prompts have a word, and so how rare it is.

    idf(w) = log((n + 1) / (n_w + 1/2)), where n_w of n prompts have the word w: the inverse document frequency of text
    retrieval. Words are folded to lower case.

    Attributes:
        counts: (1 + COUNTERS,) n, then n_w for the words of each counter.
    """

    counts: Tensor
    _frequencies: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> WordCounts:
        """Count the words of ordinary prompts."""
        counts = torch.zeros(1 + COUNTERS, dtype=torch.float32)
        counts[0] = len(texts)
        for text in texts:
            for counter in {hash_word(word) % COUNTERS for word in words_of(text)}:
                counts[1 + counter] += 1
        return cls(counts)

    def count(self, word: str) -> int:
        """Return how many of the prompts have a word in lower case, or one that shares its counter."""
        return int(self.counts[1 + hash_word(word) % COUNTERS])

    def idf(self, word: str) -> float:
        """Return the inverse document frequency of a word in lower case."""
        if (idf := self._frequencies.get(word)) is None:
            idf = math.log((float(self.counts[0]) + 1) / (self.count(word) + 0.5))
            if len(self._frequencies) < CACHED_WORDS:
                self._frequencies[word] = idf
        return idf


def words_of(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(_COUNTED_WORD.findall(text.casefold()))


def hash_word(word: str) -> int:
    """Return a number for a word that is the same on every machine."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        start: its first character.
        stop: the character after its last.
        text: the word in lower case without accents.
        idf: its inverse document frequency.
        is_name: whether it is a name, or part of one.
        opens: whether it begins a sentence or a line, where any word has a capital.
    """

    start: int
    stop: int
    text: str
    idf: float
    is_name: bool
    opens: bool = False


def find_words(text: str, counts: WordCounts) -> list[Word]:
    """Return the words of a text in their order.

    A name is a word with a capital inside a sentence, or with digits, unless many prompts have it, or it is a function
    word. In a text all in capitals a capital says nothing.
    """
    words: list[Word] = []
    shouted = text.isupper()
    for match in _WORD.finditer(text):
        raw, start = match.group(), match.start()
        folded = raw.casefold() if raw.isascii() else normalize("NFC", raw.casefold())
        idf = counts.idf(folded)
        opens = _starts_sentence(text, words, start)
        is_name = (
            folded not in FUNCTION_WORDS
            and idf > COMMON
            and (
                (not shouted and raw[0].isupper() and (idf >= SENTENCE_START_IDF or not opens))
                or (not raw.isalpha() and any(map(str.isdigit, raw)))
            )
        )
        words.append(Word(start, match.end(), fold(folded), idf, is_name, opens))
    return words


def _starts_sentence(text: str, before: Sequence[Word], start: int) -> bool:
    """Return whether the word at ``start`` begins a sentence or a line."""
    return not before or _SENTENCE_BREAK.search(text, before[-1].stop, start) is not None


def unaccented(word: str) -> str:
    """Return a word in lower case without accents, as people type it who lack them."""
    if word.isascii():
        return word
    return "".join(c for c in normalize("NFKD", word.translate(_LETTERS)) if not combining(c))


def fold(word: str) -> str:
    """Return a word in lower case as it is compared: without accents, which people leave out, and the plural's s.

    "Sao Paulo" names "São Paulo", "Lodz" names "Łódź", "Saturdays" names "Saturday".
    """
    word = unaccented(word)
    return word[:-1] if len(word) > MIN_PLURAL and word[-1] == "s" and word[-2] not in "su" else word


_FOLDED = frozenset(map(fold, FUNCTION_WORDS))


def name_shares(text: str, counts: WordCounts) -> dict[str, float]:
    """Return at most ``MAX_WORDS`` words of a text, each with its share in the names; shares add up to 1.

    A share is a word's inverse document frequency over the sum: of the names, where there are any, else of all words
    but the common ones and the function words. Words that are no names have share 0.
    """
    by_text = {word.text: word for word in sorted(find_words(text, counts), key=lambda word: word.is_name)}
    every = list(by_text.values())
    rare = [word for word in every if word.idf > COMMON]
    words = [word for word in rare if word.is_name or word.text not in _FOLDED] or rare or every
    words = sorted(words, key=lambda word: (not word.is_name, -word.idf))[:MAX_WORDS]
    has_names = any(word.is_name for word in words)
    weights = [max(word.idf, 1e-3) * (word.is_name or not has_names) for word in words]
    return {word.text: weight / sum(weights) for word, weight in zip(words, weights, strict=True)}


def asked_shares(asked: Asked, counts: WordCounts) -> dict[str, float]:
    """Return the words of what is asked, as ``name_shares`` does.

    A last turn that names nothing ("Nice. And its warranty?") takes the words of the turns before it; a word that
    begins a sentence is no sign of a name here. Texts of punctuation alone all have one word; an empty text, one that
    is not known, has none.
    """
    own = name_shares(asked.text, counts)
    if not asked.before or any(word.is_name and not word.opens for word in find_words(asked.text, counts)):
        return own or ({"": 1.0} if asked.text.strip() else {})
    earlier = name_shares("\n".join(asked.before), counts)
    together = {**earlier, **{word: max(share, earlier.get(word, 0.0)) for word, share in own.items()}}
    kept = sorted(together.items(), key=lambda item: -item[1])[:MAX_WORDS]
    total = sum(share for _, share in kept)
    return {word: share / total for word, share in kept}


def word_columns(asked: Sequence[Asked], counts: WordCounts) -> tuple[Tensor, Tensor]:
    """Return the words of n prompts: codes (n, MAX_WORDS) int32, and the share of each word in the names."""
    codes = torch.zeros(len(asked), MAX_WORDS, dtype=torch.int32)
    shares = torch.zeros(len(asked), MAX_WORDS, dtype=torch.float32)
    for row, one in enumerate(asked):
        by_code: dict[int, float] = {}
        for word, share in asked_shares(one, counts).items():
            code = 1 + hash_word(word) % WORD_CODES
            by_code[code] = by_code.get(code, 0.0) + share
        codes[row, : len(by_code)] = torch.tensor(list(by_code), dtype=torch.int32)
        shares[row, : len(by_code)] = torch.tensor(list(by_code.values()), dtype=torch.float32)
    return codes, shares
