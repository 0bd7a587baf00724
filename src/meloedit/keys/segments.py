"""Split a prompt's tokens into sentences and lines, since any of them may be the question that an edit answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SEGMENTS = 8
"""Most segments of a prompt that get a key."""
FIRST_SEGMENTS = 2
"""Of these so many from its start, the others from its end: a request stands before a long text, or behind it."""
MIN_TOKENS = 3
"""Least number of tokens of a segment."""
_SPACES = ("\u0120", "\u2581")
"""The characters that tokenizers write for the blank before a word."""
_ENDS, _CLOSERS = ".?!", "\"')]\u201d\u2019"


class _Token(NamedTuple):
    """What a token means for the end of a segment.

    Attributes:
        ends: it ends a sentence: with ".", "?" or "!".
        closes: it is only a closing quotation mark or bracket.
        breaks: it has a line break.
        blank: it begins with a blank.
    """

    ends: bool
    closes: bool
    breaks: bool
    blank: bool


class Segmenter:
    """Splits tokens into sentences and lines; it remembers each token that it has seen.

    Args:
        tokenizer: the tokenizer of the tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[int, _Token] = {}

    def __call__(self, ids: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
        """Return start and stop of segments of ``ids[start:stop]``; nothing if there is only one.

        A sentence ends with ".", "?" or "!" before a blank; a line ends with its break. Pieces of fewer than
        ``MIN_TOKENS`` tokens ("Dr.", "Thanks!") do not count.
        """
        spans, first, ended = [], start, False
        for at in range(start, stop):
            token = self._token(ids[at])
            ended = token.ends or (ended and token.closes)  # a quotation mark belongs to the sentence before it
            if token.breaks or at + 1 == stop or (ended and self._token(ids[at + 1]).blank):
                spans.append((first, at + 1))
                first, ended = at + 1, False
        if len(spans) < 2:
            return []
        long = [span for span in spans if span[1] - span[0] >= MIN_TOKENS]
        if len(long) <= MAX_SEGMENTS:
            return long
        return long[:FIRST_SEGMENTS] + long[FIRST_SEGMENTS - MAX_SEGMENTS :]

    def _token(self, token: int) -> _Token:
        if token not in self._seen:
            text = str(self._tokenizer.decode([token]))
            piece = str(self._tokenizer.convert_ids_to_tokens(token))
            bare = text.strip().rstrip(_CLOSERS)
            closes = not bare and bool(text.strip())
            blank = piece.startswith(_SPACES) or text[:1].isspace()
            self._seen[token] = _Token(bare.endswith(tuple(_ENDS)), closes, "\n" in text, blank)
        return self._seen[token]
