"""Where the user's own words stand in a prompt that a chat template has rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _ANSWER, _SECOND = "xQmeloQxFirst", "xQmeloQxAnswer", "xQmeloQxSecond"


@dataclass(frozen=True)
class Words:
    """The span of a prompt's tokens over which its key is pooled.

    Attributes:
        start: first token of the span.
        stop: token after its last.
        known: whether the span is the user's last turn; else it is the whole prompt.
    """

    start: int
    stop: int
    known: bool


class ChatMarkers:
    """The tokens that open and close a user turn, found by rendering the template around sentinels.

    The opener is what stands before the user's words in a first and in a later turn alike; the closer is what stands
    after them before an answer and at the end of a prompt alike. White space at the inner ends is left out, since
    tokenisers merge it with the words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        first = {"role": "user", "content": _FIRST}
        turns = [first, {"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _SECOND}]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        before, _, rest = text.partition(_FIRST)
        middle, _, rest = rest.partition(_ANSWER)
        between, _, after = rest.partition(_SECOND)
        opener = commonprefix([before[::-1], between[::-1]])[::-1].rstrip()
        closer = commonprefix([middle, after]).strip()
        self._tokenizer = tokenizer
        self.opener: list[int] = tokenizer(opener, add_special_tokens=False)["input_ids"] if opener else []
        # Only the closer's first token counts: what follows it may differ between the middle and the end of a prompt.
        self.closer: list[int] = tokenizer(closer, add_special_tokens=False)["input_ids"][:1] if closer else []
        self.ending: list[int] = tokenizer(after, add_special_tokens=False)["input_ids"]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ChatMarkers | None:
        """Return the markers of a tokenizer's chat template; ``None`` if it has none that can be told from text."""
        if not getattr(tokenizer, "chat_template", None):
            return None
        markers = cls(tokenizer)
        return markers if markers.opener and markers.closer else None

    def last_user_turn(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Return the token span of the last user turn's words in ``ids``; ``None`` without a turn or words."""
        size = len(self.opener)
        for i in range(len(ids) - size, -1, -1):
            if ids[i] == self.opener[0] and list(ids[i : i + size]) == self.opener:
                break
        else:
            return None
        start = i + size
        closing = self.closer[0]
        stop = next((j for j in range(start, len(ids)) if ids[j] == closing), len(ids))
        while start < stop and self._blank(ids[start]):
            start += 1
        while start < stop and self._blank(ids[stop - 1]):
            stop -= 1
        return (start, stop) if start < stop else None

    def prompt_end(self, ids: Sequence[int], words_stop: int) -> int | None:
        """Return where the prompt ends, after the template's ending; ``None`` if that is not there."""
        for i in range(words_stop, len(ids)):
            if ids[i] == self.closer[0]:
                stop = i + len(self.ending)
                return stop if list(ids[i:stop]) == self.ending else None
        return None

    def _blank(self, token: int) -> bool:
        return not str(self._tokenizer.decode([token])).strip()


def user_words(ids: Sequence[int], markers: ChatMarkers | None) -> Words:
    """Return the span of the user's own words in one prompt's real (unpadded) tokens.

    A prompt without a user turn is a raw string and its own turn: all of it but the first token, whose state is an
        attention
    sink of nearly constant, huge value in decoders. Where no words are found in a template, the whole prompt is taken.
    """
    if markers and (span := markers.last_user_turn(ids)):
        return Words(*span, known=True)
    return Words(1 if len(ids) > 1 else 0, len(ids), known=markers is None or markers.closer[0] not in ids)
