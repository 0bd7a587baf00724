"""Spans: which tokens of a rendered prompt are the user's words, over which its key is pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markers import ChatMarkers


@dataclass(frozen=True)
class Span:
    """A span of a prompt's tokens, over which its key is pooled.

    Attributes:
        start: its first token.
        stop: the token after its last.
        known: whether the span lies in the user's last turn; if no turn is recognised, the span is the whole prompt.
    """

    start: int
    stop: int
    known: bool

    @property
    def bounds(self) -> tuple[int, int]:
        """Start and stop."""
        return self.start, self.stop


def user_span(ids: Sequence[int], markers: ChatMarkers | None) -> Span:
    """Return the span of the user's text in one prompt's real (unpadded) tokens.

    An empty turn gives an empty span. Without a user turn the span is the whole prompt but its first token. In decoders
    that token is an attention sink: its state is huge and nearly the same in all prompts. Such a span is ``known`` if
    the prompt is certainly raw text.
    """
    if markers and (span := markers.last_user_turn(ids)):
        return Span(*span, known=True)
    return Span(1 if len(ids) > 1 else 0, len(ids), known=markers is None or markers.is_raw(ids))
