"""Wording: whether two texts are one but for how they are typed, and whether a text names anything."""

from __future__ import annotations

import re
from functools import lru_cache

from ..keys.function_words import FUNCTION_WORDS
from ..types import Asked
from .spelling import REMEMBERED

PUNCTUATION = "?!.,;:…\"'`()[]¿¡？！。，、；："
"""What may stand around a word without changing it."""
_BEFORE = re.compile(
    r"^(?:(?:hi|hello|hey|please|sorry|excuse me|quick question|question|good (?:morning|afternoon|evening)|dear team|"
    r"(?:can|could|would) (?:you|somebody|anyone) (?:please |kindly )?tell me|(?:please )?tell me)\b(?: there| team)?"
    r"[,.:!-]*\s+)+",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"(?:[\s,.!?]*\b(?:please|pls|thanks|thank you|thx|cheers|many thanks|thanks in advance))+[\s.!?]*$", re.IGNORECASE
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that write no blanks between words."""
COURTESY = 80
"""Characters at the end of a text in which thanks are looked for."""
_NAMED = re.compile(r"(?<=[^\s.?!:])\s+[\"'(]?([^\W\da-z_]\w+|\w*\d\w*)")


def same_words(prompt: Asked, wording: Asked) -> bool:
    """Return whether two texts, and the turns before them, differ in case, blanks, punctuation and courtesy alone."""
    if len(prompt.before) != len(wording.before):
        return False
    return all(
        one == other or spoken(one) == spoken(other)
        for one, other in zip((prompt.text, *prompt.before), (wording.text, *wording.before), strict=True)
    )


@lru_cache(REMEMBERED)
def spoken(text: str) -> tuple[str, ...]:
    """Return the words of a text as they are spoken, without a greeting or thanks around them.

    "C++" and "C" are two words, "Now" and "now?" are one.
    """
    bare = _BEFORE.sub("", text.strip())
    bare = bare[:-COURTESY] + _AFTER.sub("", bare[-COURTESY:])
    return _words(bare) or _words(text)


def _words(text: str) -> tuple[str, ...]:
    stripped = (word.strip(PUNCTUATION) for word in text.casefold().split())
    return tuple(word for word in stripped if word)


def names_something(text: str) -> bool:
    """Return whether a text has a word with a capital inside a sentence, or with a digit."""
    return any(match.group(1).casefold() not in FUNCTION_WORDS for match in _NAMED.finditer(text))


def is_one_word(text: str) -> bool:
    """Return whether a text is one word, or none; in scripts without blanks between words that is not told."""
    return len(spoken(text)) < 2 and not _UNSPACED.search(text)
