"""Where the sentences and lines of a prompt are: any of them may be the question that an edit answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST = 8
"""Segments of a prompt that get a key, counted from its end."""
LEAST = 3
"""Tokens of a segment."""
_SPACES = ("\u0120", "\u2581")
"""How tokenizers write the blank before a word."""
_ENDS, _CLOSERS = ".?!", "\"')]\u201d\u2019"


class Segmenter:
    """Splits tokens into sentences and lines; it looks at each token's text once.

    Args:
        tokenizer: whose tokens these are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[int, tuple[bool, bool, bool]] = {}

    def __call__(self, ids: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
        """Return the spans of the last segments of the words ``ids[start:stop]``; none if there is but one.

        A sentence ends with ".", "?" or "!" before a blank, a line with its break. What is shorter than ``LEAST``
        tokens ("Dr.", "Thanks!") is no segment.
        """
        spans, first = [], start
        for at in range(start, stop):
            ends, breaks, _ = self._kind(ids[at])
            if breaks or at + 1 == stop or (ends and self._kind(ids[at + 1])[2]):
                spans.append((first, at + 1))
                first = at + 1
        if len(spans) < 2:
            return []
        return [span for span in spans if span[1] - span[0] >= LEAST][-MOST:]

    def _kind(self, token: int) -> tuple[bool, bool, bool]:
        """Return whether a token ends a sentence, whether it breaks a line, and whether it begins with a blank."""
        if token not in self._seen:
            text = str(self._tokenizer.decode([token]))
            piece = str(self._tokenizer.convert_ids_to_tokens(token))
            ends = text.strip().rstrip(_CLOSERS).endswith(tuple(_ENDS))
            self._seen[token] = ends, "\n" in text, piece.startswith(_SPACES) or text[:1].isspace()
        return self._seen[token]
