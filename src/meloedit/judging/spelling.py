"""Slips of the keyboard, and accents left out: a prompt's misspelt words are read as the edit spells them.

A judge learns that one letter makes another name ("Aster" and "Astra"), so that it takes a slip for a different name. A
word counts as a slip if two of its letters are swapped, or one is missing or too many; other letters make other words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache

from ..keys.names import unaccented

MIN_SLIP, MIN_MEANT = 5, 6
"""Letters of a misspelt word, and of the word that is meant, at least."""
REMEMBERED = 65_536
"""Texts whose words are remembered: an edit may have a thousand quiet prompts."""
_WORD = re.compile(r"[^\W\d_]+")


def respelled(text: str, wording: str, known: Callable[[str], bool], others: Collection[str] = ()) -> str:
    """Return a text with the words that are slips of a word of ``wording``, and not in it, as ``wording`` spells them.

    Args:
        text: a prompt.
        wording: an edit's wording.
        known: whether a word in lower case is one; such words are spelled as they are meant.
        others: further words that are spelled as they are meant: names of other edits.
    """
    mine = {word.casefold() for word in _WORD.findall(text)}
    meant = {word.casefold(): word for word in _WORD.findall(wording)}
    missing = [word for word in meant if len(word) >= MIN_MEANT and word not in mine]
    accented = {plain: word for word in meant if word not in mine and (plain := unaccented(word)) != word}
    if not missing and not accented:
        return text

    def spelled(match: re.Match[str]) -> str:
        word = match.group().casefold()
        if word in accented:
            return meant[accented[word]]
        if len(word) < MIN_SLIP or word in meant or word in others:
            return match.group()
        found = next((other for other in missing if is_slip(word, other)), None)
        return match.group() if found is None or known(word) else meant[found]

    return _WORD.sub(spelled, text)


@lru_cache(REMEMBERED)
def words_of(text: str) -> frozenset[str]:
    """Return the words of a text in lower case, without digits."""
    return frozenset(word.casefold() for word in _WORD.findall(text))


def is_slip(word: str, meant: str) -> bool:
    """Return whether a word is another with two neighbouring letters swapped, or one missing or too many."""
    if len(word) == len(meant):
        at = next((i for i, (one, other) in enumerate(zip(word, meant, strict=True)) if one != other), len(word))
        swapped = word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]
        return word != meant and swapped == meant
    if abs(len(word) - len(meant)) != 1:
        return False
    long, short = (word, meant) if len(word) > len(meant) else (meant, word)
    at = next((i for i, letter in enumerate(short) if letter != long[i]), len(short))
    return long[:at] + long[at + 1 :] == short
