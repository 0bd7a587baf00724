"""Neighbourhood: likely neighbours of an edit, made to be asked before it goes live.

Two sources: questions that people wrote beside a question like the edit's, with the edit's names put in
(``neighbours.jsonl.gz``, made by ``judge.neighbours``), and the edit's own words with one thing changed that changes
the answer: an opposite, a number, a "not", a qualifier, another name.
"""

from __future__ import annotations

import gzip
import heapq
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal, NamedTuple

from ..judging.guards import opposites_of
from ..judging.wording import spoken
from ..keys.function_words import FUNCTION_WORDS, is_english

Kind = Literal["other question", "opposite", "number", "negation", "qualifier", "other name"]
LIKE_ROWS = 6
"""Written questions like the edit's whose neighbours are taken."""
SLOT = "{x}"
_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"[^\W_][\w'’&.-]*[^\W_]|[^\W_]")
_JOINS = frozenset(("of", "the", "and", "for", "de", "del", "la", "du", "des", "von", "der"))
"""Words that may stand inside a name."""
_NUMBER = re.compile(r"\d+")
_AUXILIARY = re.compile(
    r"\b(can|could|may|must|should|do|does|did|is|are|was|were|will|would) (i|we|you|it|they|he|she|one|there)\b", re.I
)
QUALIFIERS = ("for children", "last year", "for business customers")
ADDED = ("Pro", "II", "North", "Junior", "Plus")


class Made(NamedTuple):
    """A neighbour that was made.

    Attributes:
        prompt: what it asks.
        kind: how it differs from the edit.
    """

    prompt: str
    kind: Kind


class Neighbourhood:
    """Makes neighbours; it reads its written questions when they are first wanted."""

    def made(self, prompt: str, count: int) -> list[Made]:
        """Return at most ``count`` neighbours of what an edit asks, the likeliest to be asked first."""
        name = name_in(prompt)
        written = [Made(text, "other question") for text in self._written(prompt, name)]
        changed = list(changed_words(prompt, name))
        kept: dict[tuple[str, ...], Made] = {}
        for one in _alternating(written, changed):
            kept.setdefault(spoken(one.prompt), one)
        return [one for words, one in kept.items() if words and words != spoken(prompt)][:count]

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        data = resources.files(__package__).joinpath("neighbours.jsonl.gz").read_bytes()
        return [json.loads(line) for line in gzip.decompress(data).decode().splitlines()]

    @cached_property
    def _words(self) -> tuple[dict[str, list[int]], dict[str, float]]:
        """The rows by their words, and each word's weight."""
        rows: dict[str, list[int]] = {}
        for number, row in enumerate(self._rows):
            for word in {word for text in row["asks"] for word in content_words(text)}:
                rows.setdefault(word, []).append(number)
        count = len(self._rows)
        return rows, {word: math.log(1 + count / len(found)) for word, found in rows.items()}

    def _written(self, prompt: str, name: str | None) -> Iterator[str]:
        """Yield what was written beside the questions that share most words with the edit's."""
        rows, weights = self._words
        words = content_words(prompt.replace(name, " ") if name else prompt)
        found: dict[int, float] = {}
        for word in sorted(words & rows.keys()):  # in one order, for one sum of floats on every run
            for number in rows[word]:
                found[number] = found.get(number, 0.0) + weights[word]
        likest = heapq.nlargest(LIKE_ROWS * 4, found, key=lambda number: (found[number], -number))
        near = [self._filled(number, prompt, name) for number in likest]
        for texts in [texts for texts in near if texts][:LIKE_ROWS]:
            yield from texts

    def _filled(self, number: int, prompt: str, name: str | None) -> list[str]:
        row = self._rows[number]
        if "subject" in row:
            return row["near"] if row["subject"].casefold() in prompt.casefold() else []
        return [text.replace(SLOT, name) for text in row["near"]] if name else []


@cache
def shipped() -> Neighbourhood:
    """Return the neighbourhood of the package's written questions."""
    return Neighbourhood()  # one for all editors: it has no state, and reading the questions takes a third of a second


def name_in(prompt: str) -> str | None:
    """Return the longest name that a prompt has, as it is written; ``None`` without one."""
    spans: list[tuple[int, int]] = []
    joined = False  # whether only words that may stand inside a name came since the last part of one
    for match in _TOKEN.finditer(prompt):
        word = match.group()
        is_part = (word[:1].isupper() or any(map(str.isdigit, word))) and word.casefold() not in FUNCTION_WORDS
        if is_part and joined and spans and prompt[spans[-1][1] : match.start()].count(" ") <= 3:
            spans[-1] = spans[-1][0], match.end()
        elif is_part:
            spans.append((match.start(), match.end()))
        joined = is_part or (joined and word in _JOINS)
    names = [prompt[start:end] for start, end in spans]
    return max(names, key=len, default=None)


def content_words(text: str) -> set[str]:
    """Return the words of a text that are no function words, in lower case."""
    return {word for word in _WORD.findall(text.casefold()) if word not in FUNCTION_WORDS and word != "x"}


def changed_words(prompt: str, name: str | None) -> Iterator[Made]:
    """Yield a prompt with one thing changed that changes its answer."""
    for match in _WORD.finditer(prompt):
        for other in sorted(opposites_of(match.group().casefold())):
            yield Made(prompt[: match.start()] + other + prompt[match.end() :], "opposite")
    for match in _NUMBER.finditer(prompt):
        kind: Kind = "other name" if name and match.group() in name else "number"
        yield Made(prompt[: match.start()] + str(int(match.group()[-15:]) + 1) + prompt[match.end() :], kind)
    if auxiliary := _AUXILIARY.search(prompt):
        yield Made(f"{prompt[: auxiliary.end()]} not{prompt[auxiliary.end() :]}", "negation")
    end = len(prompt.rstrip("?!. "))
    for qualifier in QUALIFIERS if end and is_english(prompt) else ():
        yield Made(f"{prompt[:end]} {qualifier}{prompt[end:]}", "qualifier")
    if name:
        yield Made(prompt.replace(name, f"{name} {ADDED[len(name) % len(ADDED)]}"), "other name")


def _alternating(first: Sequence[Made], second: Sequence[Made]) -> Iterator[Made]:
    """Yield two of the first, then one of the second, and so on."""
    one, two = iter(first), iter(second)
    left = len(first) + len(second)
    while left:
        for source in (one, one, two):
            if (item := next(source, None)) is not None:
                left -= 1
                yield item
