"""Differences that are certain: two texts in the same words but for one opposite or number, or with two names swapped.

A judge that reads both may take them for one question all the same. Where nothing else differs that cannot be right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from ..keys.function_words import FUNCTION_WORDS
from ..keys.names import fold

_TOKEN = re.compile(r"\w+(?:[-'’.,:]\w+)*")
_SYMMETRIC = frozenset(
    """between and or vs versus difference differ compare compared comparison distance far near close related married
    und oder zwischen unterschied weit entfernt et ou entre différence loin y o e tra fra en of tussen""".split()
)
"""Words that say that two names may change places."""
_MODAL = frozenset("please kindly tell explain say know help want need like me us".split())


def only_that(prompt: str, wording: str, alike: Callable[[str, str], bool]) -> bool:
    """Return whether two texts have the same words but for some that stand for each other, function words aside.

    Args:
        prompt: a text.
        wording: another.
        alike: returns whether one word, folded, stands in the place of another.
    """
    mine, its = Counter(_content(prompt)), Counter(_content(wording))
    more, less = list((mine - its).elements()), list((its - mine).elements())
    if len(more) != len(less):
        return False
    return all(any(alike(one, other) for other in less) for one in more)


def swapped(prompt: str, wording: str) -> bool:
    """Return whether two names of a wording have changed places in a prompt, and nothing else.

    The names have capitals in the wording, or digits, other words stand between them, they do not stand behind the same
    word ("in GIIS in 2012"), and no word ("between", "or") says that they may stand in either order.
    """
    mine, its = _content(prompt), _content(wording)
    if len(mine) != len(its) or mine == its:
        return False
    at = [i for i, (one, other) in enumerate(zip(mine, its, strict=True)) if one != other]
    if len(at) != 2 or mine[at[0]] != its[at[1]] or mine[at[1]] != its[at[0]]:
        return False
    if _SYMMETRIC & {token.casefold() for token in _TOKEN.findall(f"{prompt} {wording}")}:
        return False
    pair = {its[i] for i in at}
    tokens = [match.group() for match in _TOKEN.finditer(wording)]
    places = [i for i, token in enumerate(tokens) if fold(token.casefold()) in pair]
    if len(places) != 2 or places[1] - places[0] < 2 or 0 in places:
        return False
    before = [tokens[i - 1].casefold() for i in places]
    return before[0] != before[1] and not any(tokens[i].islower() for i in places)


def _content(text: str) -> list[str]:
    """Return the words of a text, folded, without function words and words of politeness."""
    words = (match.group().casefold() for match in _TOKEN.finditer(text))
    return [fold(word) for word in words if word not in FUNCTION_WORDS and word not in _MODAL]
