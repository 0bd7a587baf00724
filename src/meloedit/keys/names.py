"""The names in a prompt, which tell what it is about, and the tokens besides, which tell what is asked of it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import category, combining, normalize

import torch
from torch import Tensor

from .words import COMMON, WordVectors, code_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
