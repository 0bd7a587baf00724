"""Chat templates: find the user's text among the tokens of a rendered prompt, since keys are pooled over it alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING

from ..text import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _ANSWER, _SECOND = "xQmeloQxFirst", "xQmeloQxAnswer", "xQmeloQxSecond"
_TURNS = [
    {"role": "user", "content": _FIRST},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _SECOND},
]


logger = logging.getLogger(__name__)


def reason(error: Exception) -> str:
    """Return in one line why a chat template refuses a prompt."""
    return shorten(" ".join(str(error).split()), 200) or type(error).__name__


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


class ChatMarkers:
    """The tokens that open and close a user turn, read from the template rendered around sentinel texts.

    Blank tokens at the ends are left out, since tokenizers merge white space with the text beside it.

    Attributes:
        opener: the tokens before the user's text that a first and a later turn have in common; may be empty.
        closer: the tokens after the user's text that a turn before an answer and a last turn have in common; may be
            empty.
        ending: the closer and all that follows it, up to where the answer begins.
        answer_end: the token after an answer, if there is one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        before, middle, between, after = self._around_sentinels(generation_prompt=True)
        *_, closed = self._around_sentinels(generation_prompt=False)
        # A prompt may be rendered without asking for an answer, so a closer that fits this case too is preferred.
        closer = commonprefix([middle, after, closed]) or commonprefix([middle, after])
        opener = self._strip(commonprefix([before[::-1], between[::-1]])[::-1])
        self.closer = self._strip(closer)
        if self.closer and opener[: len(self.closer)] == self.closer:  # it closes the turn before
            opener = self._strip(opener[len(self.closer) :])
        self.opener = opener
        self.ending = after[len(after) - len(self._strip(after, right=False)) :]
        self.answer_end = next(iter(self._strip(between)), None)

    def _around_sentinels(self, generation_prompt: bool) -> list[list[int]]:
        """Return the four runs of tokens before, between and after the sentinels.

        All four are empty if the template drops a sentinel, or the tokenizer does not report where its tokens stand.
        The text is tokenised as a whole, as prompts are.
        """
        render = self._tokenizer.apply_chat_template
        text = str(render(_TURNS, tokenize=False, add_generation_prompt=generation_prompt))
        starts = [text.find(sentinel) for sentinel in (_FIRST, _ANSWER, _SECOND)]
        if min(starts) < 0 or not self._tokenizer.is_fast:  # slow tokenizers report no offsets
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
        """Return the markers of a tokenizer's chat template; ``None`` if it has none, or one that renders no chat."""
        if not getattr(tokenizer, "chat_template", None):
            return None
        try:
            return cls(tokenizer)
        except Exception as error:  # a template is a program, and fails in its own ways
            logger.warning(
                "the chat template renders no conversation, so edits are made for raw prompts alone (%s)", reason(error)
            )
            return None

    def last_user_turn(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Return start and stop of the last user turn's text, which may be empty; ``None`` if ``ids`` have no turn."""
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
        return start, stop

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of the turns before the token ``stop``, the assistant's too, in order."""
        turns: list[tuple[int, int]] = []
        at = _find(ids, self.opener, range(stop))
        while at is not None:
            start = at + len(self.opener)
            closed = self._closed(ids, start)
            if closed is None or closed >= stop:
                break
            turns.append((start, closed))
            answer = closed + len(self.ending)
            at = _find(ids, self.opener, range(closed, stop))
            if list(ids[closed:answer]) == self.ending:
                end, closed = stop if at is None else at, self._closed(ids, answer)
                turns.append((answer, end if closed is None else min(end, closed)))
        return turns

    def prompt_end(self, ids: Sequence[int], span_stop: int) -> int | None:
        """Return where the prompt ends: after the template's ending; ``None`` if ``ids`` lack that.

        Args:
            ids: the tokens of a prompt, and maybe of an answer.
            span_stop: where the user's text ends.
        """
        closed = self._closed(ids, span_stop)
        if closed is None:
            return None
        stop = closed + len(self.ending)
        return stop if list(ids[closed:stop]) == self.ending else None

    def is_raw(self, ids: Sequence[int]) -> bool:
        """Return whether ``ids`` are certainly raw text: no marker of the template is in them."""
        return bool(self.opener and self.closer) and self._closed(ids, 0) is None

    def _closed(self, ids: Sequence[int], start: int) -> int | None:
        return _find(ids, self.closer, range(start, len(ids) - len(self.closer) + 1))

    def _blank(self, token: int) -> bool:
        return not str(self._tokenizer.decode([token])).strip()

    def _strip(self, ids: Sequence[int], right: bool = True) -> list[int]:
        """Drop blank tokens at the left end and, if ``right``, at the right end."""
        start, stop = 0, len(ids)
        while start < stop and self._blank(ids[start]):
            start += 1
        while right and start < stop and self._blank(ids[stop - 1]):
            stop -= 1
        return list(ids[start:stop])


def _find(ids: Sequence[int], sought: Sequence[int], starts: range) -> int | None:
    """Return the first of the indices ``starts`` at which the tokens ``sought`` begin."""
    if not sought:
        return None
    return next((i for i in starts if ids[i] == sought[0] and list(ids[i : i + len(sought)]) == sought), None)


def user_span(ids: Sequence[int], markers: ChatMarkers | None) -> Span:
    """Return the span of the user's text in one prompt's real (unpadded) tokens.

    An empty turn gives an empty span. Without a user turn the span is the whole prompt but its first token. In decoders
    that token is an attention sink: its state is huge and nearly the same in all prompts. Such a span is ``known`` if
    the prompt is certainly raw text.
    """
    if markers and (span := markers.last_user_turn(ids)):
        return Span(*span, known=True)
    return Span(1 if len(ids) > 1 else 0, len(ids), known=markers is None or markers.is_raw(ids))
