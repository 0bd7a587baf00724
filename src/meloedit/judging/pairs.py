"""Pairs as the judge reads them: the texts of both sides, and their tokens."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import normalize

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..types import Asked

TEXT_TOKENS, BEFORE_TOKENS, WORDING_TOKENS = 96, 64, 64
"""Most tokens of a prompt's text, of the turns before it, and of an edit's wording."""
KEPT_AT_START = 40
"""Tokens at the start of a longer text that are kept; what is left out stands in its middle."""
REMEMBERED = 8192
"""Texts whose tokens are remembered."""


class PairTokens(NamedTuple):
    """The tokens of a pair; ``second``: where the wording begins."""

    ids: list[int]
    second: int


class PairTokenizer:
    """Makes tokens of pairs.

    [CLS] turn [unused1] turn [unused1] text [SEP] wording [SEP]; types 0 up to the first [SEP], then 1. A character
    that the vocabulary lacks (many ideographs) becomes one of its unused tokens, by its hash: so that two texts with
    the same such character agree, and two with different ones do not.

    Args:
        tokenizer: a BERT tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._cls, self._sep, self._unknown = map(self._id, ("[CLS]", "[SEP]", "[UNK]"))
        self._turn = self._id("[unused1]")
        self._spare = [self._id(f"[unused{i}]") for i in range(2, 990)]
        self._text = lru_cache(REMEMBERED)(self._tokens)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the judge's vocabulary has no token {token}")
        return int(found)

    def _tokens(self, text: str) -> tuple[int, ...]:
        text = normalize("NFKC", text.encode("utf-8", "replace").decode())
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        ids = coded.ids
        if self._unknown in ids:
            ids = [
                self._spare[zlib.crc32(text[start:stop].encode()) % len(self._spare)]
                if token == self._unknown
                else token
                for token, (start, stop) in zip(ids, coded.offsets, strict=True)
            ]
        return tuple(ids)

    def _side(self, asked: Asked, most: int) -> tuple[int, ...]:
        """Return the tokens of a text, of at most ``most`` tokens, behind those of the turns before it."""
        text = self._text(asked.text)
        if len(text) > most:
            text = text[:KEPT_AT_START] + text[KEPT_AT_START - most :]
        before: tuple[int, ...] = ()
        for turn in reversed(asked.before):
            if len(before) >= BEFORE_TOKENS:
                break
            before = (*self._text(turn), self._turn, *before)
        return before[-BEFORE_TOKENS:] + text

    def knows(self, word: str) -> bool:
        """Return whether the vocabulary has a word whole; words that are misspelt it has in pieces."""
        return self._tokenizer.token_to_id(word) is not None

    def is_cut(self, prompt: Asked) -> bool:
        """Return whether a prompt's text is longer than what the judge reads."""
        return len(self._text(prompt.text)) > TEXT_TOKENS

    def encode(self, prompts: Sequence[Asked], wordings: Sequence[Asked]) -> list[PairTokens]:
        """Return the tokens of n pairs."""
        pairs = []
        for prompt, wording in zip(prompts, wordings, strict=True):
            first = [self._cls, *self._side(prompt, TEXT_TOKENS), self._sep]
            pairs.append(PairTokens([*first, *self._side(wording, WORDING_TOKENS), self._sep], len(first)))
        return pairs

    def pad(self, pairs: Sequence[PairTokens]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, types and mask (n, L), int64, of n pairs padded on the right."""
        longest = max((len(pair.ids) for pair in pairs), default=0)
        ids, types, mask = torch.zeros(3, len(pairs), longest, dtype=torch.long)
        for row, (tokens, second) in enumerate(pairs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            types[row, second : len(tokens)] = 1
            mask[row, : len(tokens)] = 1
        return ids, types, mask
