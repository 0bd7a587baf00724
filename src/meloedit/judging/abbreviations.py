"""Abbreviations: where all else is the same, a judge takes "IBAN" for "BIC", since it reads both in small pieces."""

from __future__ import annotations

import re

from ..keys.names import fold
from .differences import only_that

_WORD = re.compile(r"[^\W\d_]+")
_MOST = 0.5
"""Share of letters that are capitals from which a text is all in capitals, where one says nothing."""
LEAST_LETTERS, MOST_LETTERS = 2, 5
"""How many letters an abbreviation has, at least and at most."""


def other_abbreviation(prompt: str, wording: str) -> bool:
    """Return whether a prompt has the words of a wording, but another abbreviation in the place of one of its.

    A prompt that is in lower case may have any word there. Letters that changed places are a slip.
    """
    mine, its = abbreviations(prompt), abbreviations(wording)
    lower = prompt.islower()
    if not its or not (mine or lower):
        return False

    def alike(one: str, other: str) -> bool:
        return other in its and (one in mine or (lower and one.isalpha())) and sorted(one) != sorted(other)

    return only_that(prompt, wording, alike) and not only_that(prompt, wording, lambda one, other: False)


def abbreviations(text: str) -> set[str]:
    """Return the words of a text that are all in capitals, folded; none of a text that is so itself."""
    letters = [letter for letter in text if letter.isalpha()]
    if sum(letter.isupper() for letter in letters) > _MOST * len(letters):
        return set()
    words = _WORD.findall(text)
    return {fold(word.casefold()) for word in words if word.isupper() and LEAST_LETTERS <= len(word) <= MOST_LETTERS}
