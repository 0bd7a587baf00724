"""Contrasts: words of which one makes another question where it stands in the place of the other.

They come from hand-written rows (``judge/contrasts.py``): "after" and "before", "genus" and "family", "fee" and
"deadline". Of some kinds any two words are contrasts: days of the week, units, tickets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path

from ..keys.function_words import FUNCTION_WORDS
from ..keys.names import fold

BUILT_IN = Path(__file__).with_name("contrasts.jsonl")
"""A pair of words on each line."""
_CERTAIN_KINDS = """
    monday tuesday wednesday thursday friday saturday sunday|
    january february april june july august september october november december|small medium large|
    morning afternoon evening|
    montag dienstag mittwoch donnerstag freitag samstag sonntag|lundi mardi mercredi jeudi vendredi samedi dimanche|
    lunes martes miércoles jueves viernes sábado domingo
"""
"""Kinds of which a rewording hardly ever names another word, whatever else it says."""
_KINDS = """
    january march|one two three four five six seven eight nine ten eleven twelve|
    first second third fourth fifth sixth seventh eighth ninth tenth last|
    1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th|once twice thrice|single double triple|half quarter third whole|
    spring summer autumn winter|yesterday today tomorrow|morning afternoon evening night noon midnight|
    hourly daily weekly monthly quarterly yearly|second minute hour day week month year decade century|
    last next|this next|last this|previous next|current previous|current next|current former|
    since before|since after|since until|before after|until after|did does|did do|did will|
    breakfast lunch dinner|red green blue yellow white black orange purple brown grey pink|
    bronze silver gold platinum|minimum average maximum|least average most|
    north south east west|northern southern eastern western|top bottom|front back|left right|
    child adult pensioner student|toddler child adult|boy girl|men women|man woman|
    millimetre centimetre metre kilometre mile inch foot yard|gram kilogram tonne pound ounce|
    celsius fahrenheit kelvin|euro dollar pound franc yen krona|letter parcel postcard|
    english french german spanish italian portuguese dutch polish russian chinese japanese arabic
"""
_PREFIXES = """
    /un /im /il /ir /dis /de /mis pre/post over/under up/down in/out in/ex im/ex in/de inner/outer hyper/hypo
    macro/micro
"""
_ENDINGS = "er/ee or/ee ful/less"
_PREFIX_PAIRS, _ENDING_PAIRS = ([tuple(pair.split("/")) for pair in table.split()] for table in (_PREFIXES, _ENDINGS))
STEM = 3
"""Letters that two words share, at least, where a prefix or an ending makes one the opposite of the other."""
_DENIALS = frozenset("not no without t never nicht kein keine ohne pas sans sin".split())
_WORD = re.compile(r"[^\W_]+")
REMEMBERED = 8_192
"""Texts whose words are remembered."""
SHORT = 20
"""Words of a text that tells no story: in a story another day may be named by the way."""


@lru_cache(REMEMBERED)
def bare_words(text: str) -> Counter[str]:
    """Return the words of a text, in lower case, without the plural's s and without accents, with their counts.

    Not to be changed: a wording is compared with many prompts.
    """
    return Counter(fold(word) for word in _WORD.findall(text.casefold()))


def one_word_apart(one: str, other: str, content: bool = False) -> tuple[str, str] | None:
    """Return the word of each text that the other lacks, if that is one each.

    Args:
        one: a text.
        other: another.
        content: look at words with content alone, denials among them.
    """
    mine, its = bare_words(one), bare_words(other)
    if content:
        mine, its = _content(mine), _content(its)
    if mine.total() != its.total():
        return None
    more, less = mine - its, its - mine
    return (*more, *less) if more.total() == 1 else None  # type: ignore[return-value]


def contrasted(prompt: str, wording: str) -> bool:
    """Return whether a prompt is a wording but for one word, and has a contrast of it instead.

    First all words are compared, then those with content.
    """
    pairs = (one_word_apart(prompt, wording, content) for content in (False, True))
    return any(pair is not None and (frozenset(pair) in _contrasts() or _turned(*pair)) for pair in pairs)


def names_another(prompt: str, wording: str) -> bool:
    """Return whether two short texts name as many days, months or the like, and all are others."""
    mine, its = bare_words(prompt), bare_words(wording)
    if max(mine.total(), its.total()) > SHORT:
        return False
    return any(
        (here := kind & mine.keys()) and (there := kind & its.keys()) and len(here) == len(there) and not here & there
        for kind in _kinds(_CERTAIN_KINDS)
    )


def _turned(one: str, other: str) -> bool:
    """Return whether a prefix or an ending makes one word the opposite of the other ("unpaid", "employee")."""
    both = ((one, other), (other, one))
    for mine, its in _PREFIX_PAIRS:
        if any(a.startswith(mine) and b == its + a[len(mine) :] and len(a) >= len(mine) + STEM for a, b in both):
            return True
    return any(
        a.endswith(mine) and b == a[: -len(mine)] + its and len(a) >= len(mine) + STEM
        for mine, its in _ENDING_PAIRS
        for a, b in both
    )


def _content(words: Counter[str]) -> Counter[str]:
    return Counter({word: count for word, count in words.items() if word in _DENIALS or word not in FUNCTION_WORDS})


@cache
def _kinds(table: str) -> list[frozenset[str]]:
    return [frozenset(map(fold, words.split())) for words in table.split("|")]


@cache
def _contrasts() -> frozenset[frozenset[str]]:
    """Return all pairs of words that are contrasts."""
    pairs = {frozenset(json.loads(line)) for line in BUILT_IN.read_text(encoding="utf-8").splitlines()}
    kinds = (*_kinds(_CERTAIN_KINDS), *_kinds(_KINDS))
    return frozenset(pairs | {frozenset((one, other)) for words in kinds for one in words for other in words - {one}})
