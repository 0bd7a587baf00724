"""Where the user's own words stand in a prompt that a chat template has rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _ANSWER, _SECOND = "xQmeloQxFirst", "xQmeloQxAnswer", "xQmeloQxSecond"
_TURNS = [
    {"role": "user", "content": _FIRST},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _SECOND},
]


@dataclass(frozen=True)
class Span:
    """A span of a prompt's tokens, over which its key is pooled.

    Attributes:
        start: its first token.
        stop: the token after its last.
        known: whether the span lies in the user's last turn; else that was not found, and the whole prompt is taken.
    """

    start: int
    stop: int
    known: bool

    @property
    def bounds(self) -> tuple[int, int]:
        """Start and stop."""
        return self.start, self.stop


class ChatMarkers:
    """The tokens that open and close a user turn, found by rendering the template around sentinels.

    White space at the ends is left out, since tokenisers merge it with the words.

    Attributes:
        opener: what stands before the user's words in a first and in a later turn alike; empty if there is no such.
        closer: what stands after them before an answer and at the end of a prompt alike; empty if there is no such.
        ending: the closer and all that follows it, up to where the answer begins.
        answer_end: the token after an answer, if there is one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        before, middle, between, after = self._around_sentinels(generation_prompt=True)
        *_, closed = self._around_sentinels(generation_prompt=False)
        # A prompt need not ask for an answer: what closes a turn in any case comes first.
        closer = commonprefix([middle, after, closed]) or commonprefix([middle, after])
        opener = self._strip(commonprefix([before[::-1], between[::-1]])[::-1])
        self.closer = self._strip(closer)
        if self.closer and opener[: len(self.closer)] == self.closer:  # of the turn before
            opener = self._strip(opener[len(self.closer) :])
        self.opener = opener
        self.ending = after[len(after) - len(self._strip(after, right=False)) :]
        self.answer_end = next(iter(self._strip(between)), None)

    def _around_sentinels(self, generation_prompt: bool) -> list[list[int]]:
        """Return the tokens before, between and after the sentinels; none where a sentinel or its place is not known.

        The text is tokenised whole, so that the tokens are those of a prompt.
        """
        render = self._tokenizer.apply_chat_template
        text = str(render(_TURNS, tokenize=False, add_generation_prompt=generation_prompt))
        starts = [text.find(sentinel) for sentinel in (_FIRST, _ANSWER, _SECOND)]
        if min(starts) < 0 or not self._tokenizer.is_fast:  # slow tokenizers do not say where tokens stand
            return [[], [], [], []]
        coded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [start + len(sentinel) for start, sentinel in zip(starts, (_FIRST, _ANSWER, _SECOND), strict=True)]
        return [
            [
                token
                for token, (start, stop) in zip(coded["input_ids"], coded["offset_mapping"], strict=True)
                if low <= start and stop <= high
            ]
            for low, high in zip([0, *ends], [*starts, len(text)], strict=True)
        ]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ChatMarkers | None:
        """Return the markers of a tokenizer's chat template; ``None`` if it has no template."""
        return cls(tokenizer) if getattr(tokenizer, "chat_template", None) else None

    def last_user_turn(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Return the token span of the last user turn's words in ``ids``; ``None`` without a turn or words."""
        opened = _find(ids, self.opener, range(len(ids) - len(self.opener), -1, -1))
        if opened is None:
            return None
        start = opened + len(self.opener)
        closed = self._closed(ids, start)
        stop = len(ids) if closed is None else closed
        while start < stop and self._blank(ids[start]):
            start += 1
        while start < stop and self._blank(ids[stop - 1]):
            stop -= 1
        return (start, stop) if start < stop else None

    def prompt_end(self, ids: Sequence[int], words_stop: int) -> int | None:
        """Return where the prompt ends, after the template's ending; ``None`` if that is not there."""
        closed = self._closed(ids, words_stop)
        if closed is None:
            return None
        stop = closed + len(self.ending)
        return stop if list(ids[closed:stop]) == self.ending else None

    def is_raw(self, ids: Sequence[int]) -> bool:
        """Return whether ``ids`` are surely raw text: nothing of the template is in them."""
        return bool(self.opener and self.closer) and self._closed(ids, 0) is None

    def _closed(self, ids: Sequence[int], start: int) -> int | None:
        return _find(ids, self.closer, range(start, len(ids) - len(self.closer) + 1))

    def _blank(self, token: int) -> bool:
        return not str(self._tokenizer.decode([token])).strip()

    def _strip(self, ids: Sequence[int], right: bool = True) -> list[int]:
        """Drop blank tokens at the left end, and at the right one."""
        start, stop = 0, len(ids)
        while start < stop and self._blank(ids[start]):
            start += 1
        while right and start < stop and self._blank(ids[stop - 1]):
            stop -= 1
        return list(ids[start:stop])


def _find(ids: Sequence[int], sought: Sequence[int], places: range) -> int | None:
    """Return the first of ``places`` at which the tokens ``sought`` stand."""
    if not sought:
        return None
    return next((i for i in places if ids[i] == sought[0] and list(ids[i : i + len(sought)]) == sought), None)


def user_span(ids: Sequence[int], markers: ChatMarkers | None) -> Span:
    """Return the span of the user's own words in one prompt's real (unpadded) tokens.

    A prompt without a user turn is a raw string and its own turn: all of it but the first token, whose state is an
    attention sink of nearly constant, huge value in decoders. Where no words are found in a template, the whole prompt
    is taken.
    """
    if markers and (span := markers.last_user_turn(ids)):
        return Span(*span, known=True)
    return Span(1 if len(ids) > 1 else 0, len(ids), known=markers is None or markers.is_raw(ids))
