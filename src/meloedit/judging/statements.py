"""Statements: a long text that asks nothing, as web pages and articles have them, is no question about an edit.

A judge that was trained on questions, and on statements that an answer completes, takes some for them: the longer a
text, the more of its words are an edit's by chance, and cut off anywhere it looks like a statement to complete. One
that has a name of the edit, as it is written, may still be about it ("Grandpa still growls about that Cup Final").
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..keys.function_words import FUNCTION_WORDS
from ..keys.names import fold
from .request import REMEMBERED, asks_something

LEAST_WORDS = 20
"""Words from which a text that asks nothing is taken for one to be read: terse and open prompts are shorter."""
_TOKEN = re.compile(r"\w+(?:['’]\w+)*")
_BREAK = re.compile(r"(?<=[.!?؟。])[\"'”’)]*\s+|\n")
_ENDS = ".!?؟？。"
_GENITIVE = re.compile(r"['’]s?$")
_JOINS = re.compile(r"[\s\-–.]*(?:(?:of|the|and|for|de|la|du|del|von|van|der)\s+)*", re.IGNORECASE)
"""What stands between the words of one name ("Love Is the Power of Women")."""


def tells_of_others(prompt: str, wording: str) -> bool:
    """Return whether a prompt is a long text that asks nothing, and has none of the names of a wording.

    A name is a run of words with capitals or digits inside the wording; one that begins it is not told from a common
    word. A wording without any is never told of others.
    """
    told = _told(prompt)
    names = names_of(wording) if told else []
    return bool(names) and not any(f" {' '.join(name)} " in told for name in names)


@lru_cache(REMEMBERED)
def _told(text: str) -> str:
    """Return the words of a long text that asks nothing, folded, with a blank around each; nothing of another text."""
    words = _TOKEN.findall(text)
    if len(words) < LEAST_WORDS or asks_something(text):
        return ""
    return f" {' '.join(map(_bare, words))} "


@lru_cache(REMEMBERED)
def completed_by_answer(text: str) -> str:
    """Return the last sentence of a text of several, if it is one that an answer completes; else nothing.

    It has no end, and a word with a capital or a digit, other than "He" or "The": what it says of whom stands in it.
    """
    parts = [part.strip() for part in _BREAK.split(text) if part.strip()]
    if len(parts) < 2 or (last := parts[-1])[-1] in _ENDS:
        return ""
    named = (word for word in _TOKEN.findall(last) if word[0].isupper() or any(map(str.isdigit, word)))
    return last if any(word.casefold() not in FUNCTION_WORDS for word in named) else ""


def names_of(wording: str) -> list[list[str]]:
    """Return the names of a wording, each as its folded words."""
    names: list[list[str]] = []
    stop = 0
    for number, match in enumerate(_TOKEN.finditer(wording)):
        word = match.group()
        if number and (word[0].isupper() or any(map(str.isdigit, word))):
            between = wording[stop : match.start()]
            if not (names and _JOINS.fullmatch(between)):
                names.append([])
                between = ""
            names[-1] += [_bare(part) for part in (*_TOKEN.findall(between), word)]
            stop = match.end()
    return [name for name in names if not FUNCTION_WORDS.issuperset(name)]


def _bare(word: str) -> str:
    """Return a word folded, without the sign of a genitive: "Weiland's" is "Weiland"."""
    return fold(_GENITIVE.sub("", word.casefold()))
