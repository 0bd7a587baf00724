"""Differences that are certain: two texts in the same words but for one opposite or number, or with two names swapped.

A judge that reads both may take them for one question all the same. Where nothing else differs that cannot be right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from ..keys.function_words import FUNCTION_WORDS, is_english
from ..keys.names import fold

_TOKEN = re.compile(r"\w+(?:[-'’.,:]\w+)*")
_SYMMETRIC = frozenset(
    """between and or vs versus difference differ compare compared comparison distance far near close related married
    equal und oder zwischen unterschied weit entfernt et ou entre différence loin y o e tra fra en of tussen""".split()
)
"""Words that say that two names may change places."""
_ASKING = frozenset("who whom whose which what when where why how".split())
_AUXILIARY = _ASKING | frozenset(
    "is are was were be been do doe did has ha have had can could may might must shall should will would".split()
)
_WHERE = frozenset("in on at during".split())
_DIRECTED = frozenset(
    "to into onto from by than with without then when before after for of over until against per instead".split()
)
"""Words that tell the part before them from the part behind them."""
LONG = 64
"""Words of a text whose parts are compared, at most: the judge reads no more of a wording."""
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
    if _may_change_places([token.casefold() for token in _TOKEN.findall(f"{prompt} {wording}")]):
        return False
    pair = {its[i] for i in at}
    tokens = [match.group() for match in _TOKEN.finditer(wording)]
    places = [i for i, token in enumerate(tokens) if fold(token.casefold()) in pair]
    if len(places) != 2 or places[1] - places[0] < 2 or 0 in places:
        return False
    before = [tokens[i - 1].casefold() for i in places]
    return before[0] != before[1] and not any(tokens[i].islower() for i in places)


def exchanged(prompt: str, wording: str) -> bool:
    """Return whether two parts of a wording have changed places in a prompt, around words that stay between them.

    "from the house to a flat", "from a flat to the house"; "does warm air heat a wall", "does a wall heat warm air".
    A part that has merely moved ("Without a jacket, may I ...?") is no exchange. No word ("between", "or") may say that
    both orders are one, no part asks ("which"), and in a telegram ("library hours summer") a preposition of direction
    stands between them: else its words have no order.
    """
    mine, its = _all_words(prompt), _all_words(wording)
    if len(its) > LONG or mine == its or Counter(mine) != Counter(its) or _may_change_places(its):
        return False
    start = next(i for i, (one, other) in enumerate(zip(mine, its, strict=True)) if one != other)
    stop = len(its) - next(i for i, (one, other) in enumerate(zip(mine[::-1], its[::-1], strict=True)) if one != other)
    mine, core = mine[start:stop], its[start:stop]
    for first in range(1, len(core) - 1):
        for last in range(1, len(core) - first):
            one, between, other = core[:first], core[first:-last], core[-last:]
            if mine == [*other, *between, *one]:
                return _are_roles(its, start, one, between, other)
    return False


def _are_roles(words: list[str], start: int, one: list[str], between: list[str], other: list[str]) -> bool:
    """Return whether exchanging two parts of a text makes another one."""
    if _ASKING & {*one, *other} or (start == 0 and one[0] in FUNCTION_WORDS):
        return False
    if start and words[start - 1] == between[-1] in _WHERE:  # "in 2012 in Oslo"
        return False
    is_telegram = not _AUXILIARY & set(words)
    return bool(_DIRECTED & set(between)) if is_telegram else True


def _may_change_places(words: Sequence[str]) -> bool:
    found = _SYMMETRIC & set(words)
    return bool(found - {"of"}) or ("of" in found and not is_english(" ".join(words)))


def _all_words(text: str) -> list[str]:
    return [fold(match.group().casefold()) for match in _TOKEN.finditer(text)]


def _content(text: str) -> list[str]:
    """Return the words of a text, folded, without function words and words of politeness."""
    words = (match.group().casefold() for match in _TOKEN.finditer(text))
    return [fold(word) for word in words if word not in FUNCTION_WORDS and word not in _MODAL]
