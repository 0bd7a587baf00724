"""AnswerText: the text of an answer as its tokens come, cut before a stop text, in pieces that are never taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CONTEXT = 8
"""Tokens before a new one with which it is decoded: a token's text may depend on those before it."""
UNFINISHED = "\ufffd"
"""What a decoder writes for a character of which tokens are still missing."""


class AnswerText:
    """The text of one answer.

    Args:
        decode: turns tokens into text without special tokens.
        stops: texts before which the answer ends.

    Attributes:
        text: the answer so far; what may yet turn out to be the beginning of a stop text is not in it.
        stopped: whether a stop text came.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._ids: list[int] = []
        self._done = 0  # tokens whose text is in _whole
        self._whole = ""  # text of these
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; return the text that is new and stays."""
        self._ids.append(token)
        start = max(0, self._done - CONTEXT)
        before, now = self._decode(self._ids[start : self._done]), self._decode(self._ids[start:])
        if now.endswith(UNFINISHED) and len(self._ids) - self._done < CONTEXT:
            return ""
        self._whole += now[len(before) :]
        self._done = len(self._ids)
        return self._advance(self._held_back())

    def end(self) -> str:
        """Return the rest of the text: nothing comes after it."""
        if self.stopped:
            return ""
        start = max(0, self._done - CONTEXT)
        self._whole += self._decode(self._ids[start:])[len(self._decode(self._ids[start : self._done])) :]
        self._done = len(self._ids)
        return self._advance(0)

    def _advance(self, held_back: int) -> str:
        """Move on to the end of the text but for so many characters, or to a stop text."""
        found = [at for stop in self._stops if (at := self._whole.find(stop)) >= 0]
        if found:
            self.stopped = True
            end = max(min(found), len(self.text))
        else:
            end = len(self._whole) - held_back
        new = self._whole[len(self.text) : end]
        self.text += new
        return new

    def _held_back(self) -> int:
        """Return how many of the last characters may be the beginning of a stop text."""
        longest = max(map(len, self._stops), default=1) - 1
        ends = range(min(longest, len(self._whole)), 0, -1)
        return next((n for n in ends if any(stop.startswith(self._whole[-n:]) for stop in self._stops)), 0)
