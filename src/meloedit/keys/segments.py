"""Where the sentences and lines of a prompt are: any of them may be the question that an edit answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SEGMENTS = 8
"""Segments of a prompt that get a key, counted from its end."""
MIN_TOKENS = 3
"""Tokens of a segment."""
_SPACES = ("\u0120", "\u2581")
"""How tokenizers write the blank before a word."""
_ENDS, _CLOSERS = ".?!", "\"')]\u201d\u2019"


class _Token(NamedTuple):
    """Whether a token ends a sentence, only closes one, breaks a line, and begins with a blank."""

    ends: bool
    closes: bool
    breaks: bool
    blank: bool


class Segmenter:
    """Splits tokens into sentences and lines; it looks at each token's text once.

    Args:
        tokenizer: whose tokens these are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[int, _Token] = {}

    def __call__(self, ids: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
        """Return the spans of the last segments of the words ``ids[start:stop]``; none if there is but one.

        A sentence ends with ".", "?" or "!" before a blank, a line with its break. What is shorter than ``MIN_TOKENS``
        tokens ("Dr.", "Thanks!") is no segment.
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
        return [span for span in spans if span[1] - span[0] >= MIN_TOKENS][-MAX_SEGMENTS:]

    def _token(self, token: int) -> _Token:
        if token not in self._seen:
            text = str(self._tokenizer.decode([token]))
            piece = str(self._tokenizer.convert_ids_to_tokens(token))
            bare = text.strip().rstrip(_CLOSERS)
            closes = not bare and bool(text.strip())
            blank = piece.startswith(_SPACES) or text[:1].isspace()
            self._seen[token] = _Token(bare.endswith(tuple(_ENDS)), closes, "\n" in text, blank)
        return self._seen[token]
