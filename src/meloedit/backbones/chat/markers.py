"""Markers: the tokens by which a chat template marks turns, and what they show in a rendered prompt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING

from ...text import shorten
from .tools import ToolMarks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _ANSWER, _SECOND = "xQmeloQxFirst", "xQmeloQxAnswer", "xQmeloQxSecond"
THINK = "<think>", "</think>"
"""What opens and closes a think block."""
THINK_TOKENS = 8
"""Tokens in which the opening of a think block stands, at most."""
_TURNS = [
    {"role": "user", "content": _FIRST},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": _SECOND},
]


logger = logging.getLogger(__name__)


def reason(error: Exception) -> str:
    """Return in one line why a chat template refuses a prompt."""
    return shorten(" ".join(str(error).split()), 200) or type(error).__name__


class ChatMarkers:
    """The tokens that open and close a user turn, read from the template rendered around sentinel texts.

    Blank tokens at the ends are left out, since tokenizers merge white space with the text beside it.

    Attributes:
        opener: the tokens before the user's text that a first and a later turn have in common; may be empty.
        closer: the tokens after the user's text that a turn before an answer and a last turn have in common; may be
            empty.
        ending: the closer and all that follows it, up to where the answer begins.
        answer_end: the token after an answer, if there is one.
        tools: how the template writes the results of tools.
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
        self.tools = ToolMarks.of(tokenizer, self._text(self.opener).strip())

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
        """Return start and stop of the text of the user's own last turn, which may be empty.

        A turn that is a tool's result is none of the user's. ``None`` if ``ids`` have no other.
        """
        last = len(ids) - len(self.opener)
        while (opened := _find(ids, self.opener, range(last, -1, -1))) is not None:
            start, stop = self._turn_at(ids, opened + len(self.opener))
            if not self._is_result(ids, start, stop):
                return start, stop
            last = opened - 1
        return None

    def _turn_at(self, ids: Sequence[int], start: int) -> tuple[int, int]:
        """Return start and stop of the text of the turn whose opener ends at ``start``."""
        closed = self._closed(ids, start)
        stop = len(ids) if closed is None else closed
        while start < stop and self._blank(ids[start]):
            start += 1
        while start < stop and self._blank(ids[stop - 1]):
            stop -= 1
        return start, stop

    def _is_result(self, ids: Sequence[int], start: int, stop: int) -> bool:
        """Return whether the text of a user's turn is a tool's result."""
        # Its beginning says so; twice the longest mark's characters are tokens enough.
        return self.tools.opens(self._text(ids[start : min(stop, start + self.tools.width)]))

    def has_result(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the user's own last turn, or in ``ids`` without such a turn."""
        if (turn := self.last_user_turn(ids)) is not None:
            return self._result_behind(ids, turn[1])
        if _find(ids, self.opener, range(len(ids))) is not None:
            return True  # turns that look like the user's, of which none is the user's own
        return self.tools.have_turns and self.tools.marks(self._text(ids))

    def opens_turn(self, ids: Sequence[int]) -> bool:
        """Return whether ``ids`` have a turn to which an answer is due: the user's own, or a tool's result."""
        return self.last_user_turn(ids) is not None or self.has_result(ids)

    def _result_behind(self, ids: Sequence[int], start: int) -> bool:
        return len(ids) > start + len(self.ending) and self.tools.stands_in(self._text(ids[start:]))

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of the turns before the token ``stop``, the assistant's too, in order."""
        turns: list[tuple[int, int]] = []
        at = _find(ids, self.opener, range(stop))
        while at is not None:
            start = at + len(self.opener)
            closed = self._closed(ids, start)
            if closed is None or closed >= stop:
                break
            if not self._is_result(ids, *self._turn_at(ids, start)):
                turns.append((start, closed))
            answer = closed + len(self.ending)
            at = _find(ids, self.opener, range(closed, stop))
            if list(ids[closed:answer]) == self.ending:
                end, closed = stop if at is None else at, self._closed(ids, answer)
                turns.append((answer, end if closed is None else min(end, closed)))
        return turns

    def header_end(self, ids: Sequence[int], span_stop: int) -> int | None:
        """Return where the template's last ending ends, behind which an answer begins; ``None`` if ``ids`` lack one.

        Tool calls and their results stand before the last one, where the template opens a turn for each.

        Args:
            ids: the tokens of a prompt, and maybe of an answer.
            span_stop: where the user's text ends.
        """
        closed = self._closed(ids, span_stop)
        if closed is None or list(ids[closed : closed + len(self.ending)]) != self.ending:
            return None
        found = _find(ids, self.ending, range(len(ids) - len(self.ending), closed - 1, -1))
        if found is None or (found == closed and self._result_behind(ids, closed)):
            return None  # a template without a header behind results: where the answer begins does not show
        return found + len(self.ending)

    def prompt_end(self, ids: Sequence[int], span_stop: int) -> int | None:
        """Return where the prompt ends: behind the template's last ending, and the think block there, if any.

        Args:
            ids: the tokens of a prompt, and maybe of an answer.
            span_stop: where the user's text ends.

        Returns:
            ``None`` if ``ids`` lack that ending.
        """
        header = self.header_end(ids, span_stop)
        return None if header is None else header + self._thought(ids[header:])

    def _thought(self, ids: Sequence[int]) -> int:
        """Return how many tokens a think block takes with which ``ids`` begin, the blanks behind it included."""
        if not ids or not self._text(ids[:THINK_TOKENS]).lstrip().startswith(THINK[0]):
            return 0
        text = self._text(ids)
        if (end := text.find(THINK[1])) < 0:
            return 0
        end += len(THINK[1])
        rest = text[end:].lstrip()
        # the least number of tokens whose text reaches the answer; bisected, since thoughts may be long
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self._text(ids[:middle])) < len(text) - len(rest):
                low = middle + 1
            else:
                high = middle
        return low

    def is_raw(self, ids: Sequence[int]) -> bool:
        """Return whether ``ids`` are certainly raw text: no marker of the template is in them."""
        return bool(self.opener and self.closer) and self._closed(ids, 0) is None

    def _closed(self, ids: Sequence[int], start: int) -> int | None:
        return _find(ids, self.closer, range(start, len(ids) - len(self.closer) + 1))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def _blank(self, token: int) -> bool:
        return not self._text([token]).strip()

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
