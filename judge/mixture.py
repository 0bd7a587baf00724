"""Mixture: pairs to train on, from rows written by hand, from public question data, and from the grammar."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meloedit.types import Asked

from .noise import noisy
from .tasks import asks_else, asks_itself

Row = Mapping[str, Any]
HARD = 3
"""The first near questions of a row on the same subject are the hard ones."""


class Pair(NamedTuple):
    """A prompt, an edit's wording, and whether they ask the same."""

    prompt: Asked
    wording: Asked
    same: bool


def read_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the rows of JSONL files, ``.gz`` too."""
    rows = []
    for path in paths:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
        with opened as lines:
            rows += [json.loads(line) for line in lines if line.strip()]
    return rows


KEPT_EVERY = 14
"""Of a file of rows every so many-th is kept back from training."""


def kept_back(path: Path, kept: bool) -> list[dict[str, Any]]:
    """Return the rows of a file that are kept back from training, or the others."""
    return [row for i, row in enumerate(read_rows([path])) if (i % KEPT_EVERY == KEPT_EVERY - 1) == kept]


def asked(prompt: Any) -> Asked:
    """Return a string, or a conversation, as the judge reads it."""
    if isinstance(prompt, str):
        return Asked(prompt)
    turns = [turn for turn in prompt if turn["role"] in ("user", "assistant")]
    return Asked(turns[-1]["content"], tuple(turn["content"] for turn in turns[:-1]))


class Hand:
    """Pairs of rows written by hand; ``rows`` have the fields of ``judge/README.md``.

    Args:
        rows: the rows.
        rng: the source of randomness.
        elsewhere: share of the pairs whose prompt is of another row, half of them of its domain where there are some.
    """

    def __init__(self, rows: Sequence[Row], rng: random.Random, elsewhere: float = 0.0) -> None:
        self._rng, self._share_elsewhere = rng, elsewhere
        self.take(rows)

    def take(self, rows: Sequence[Row]) -> None:
        """Make pairs of these rows from now on."""
        self._rows = list(rows)
        self._weights: list[float] = [2.0 if row["lang"] != "en" else 1.0 for row in self._rows]
        self._chats = [row for row in self._rows if row.get("chat_same")]
        self._inside = [row for row in self._rows if row.get("asks_inside")]
        self._order: list[Row] = []
        self._of_domain: dict[tuple[str, str], list[Row]] = {}
        for row in self._rows:
            self._of_domain.setdefault((row["lang"], row.get("domain", "")), []).append(row)

    def _row(self) -> Row:
        if not self._order:
            self._order = self._rng.choices(self._rows, self._weights, k=len(self._rows))
        return self._order.pop()

    def __call__(self) -> Pair:
        """Return a pair."""
        rng, kind = self._rng, self._rng.random()
        if self._share_elsewhere and rng.random() < self._share_elsewhere:  # else the draws of earlier runs stay
            return self._elsewhere(self._row())
        if kind < 0.14 and self._chats:
            return self._chat(rng.choice(self._chats))
        if kind < 0.19 and self._inside:
            row = rng.choice(self._inside)
            return Pair(Asked(rng.choice(row["asks_inside"])), asked(row["prompt"]), True)
        return self._in_context(self._plain(self._row()))

    def _plain(self, row: Row) -> Pair:
        rng, kind = self._rng, self._rng.random()
        wordings = [*([row["prompt"]] if isinstance(row["prompt"], str) else []), *row["rephrasings"]]
        n = lambda text: noisy(text, rng)  # noqa: E731
        first = wordings[0] if rng.random() < 0.5 else rng.choice(wordings)
        if kind < 0.44:
            second = rng.choice([w for w in wordings if w != first])
            return self._turned(n(second), n(first), True, 0.5)
        if kind < 0.46:
            return Pair(Asked(n(first)), Asked(first), True)
        near = list(row["near_same_subject"])
        hard = len(near) // 2 if len(near) != 2 * HARD else HARD
        if kind < 0.73:
            other = rng.choice(near[:hard] if rng.random() < 0.7 else near[hard:])
            return self._turned(n(other), n(first), False, 0.3)
        if kind < 0.85:
            return self._turned(n(rng.choice(row["near_same_relation"])), n(first), False, 0.3)
        contains = row.get("contains") or []
        contains = [contains] if isinstance(contains, str) else contains
        if kind < 0.91 and contains:
            return Pair(Asked(rng.choice(contains)), Asked(n(first)), False)
        if kind < 0.94:
            return Pair(Asked(asks_else(n(rng.choice(wordings)), rng)), Asked(n(first)), False)
        if kind < 0.96:
            return Pair(Asked(asks_itself(n(rng.choice(wordings)), rng)), Asked(n(first)), True)
        if kind < 0.98 and (subject := row.get("subject")) and (swapped := self._swapped(first, subject)):
            other = rng.choice(wordings)
            return Pair(Asked(n(swapped)), Asked(n(other)), False)
        return Pair(Asked(n(rng.choice(self._rng.choice(self._rows)["rephrasings"]))), Asked(n(first)), False)

    def _elsewhere(self, row: Row) -> Pair:
        """Return a wording of a row beside a prompt of another one: the longest of three, stories above all."""
        rng = self._rng
        wordings = [*([row["prompt"]] if isinstance(row["prompt"], str) else []), *row["rephrasings"]]
        others = self._of_domain[row["lang"], row.get("domain", "")] if rng.random() < 0.5 else self._rows
        prompts = [text for other in rng.choices(others, k=3) if other is not row for text in other["rephrasings"]]
        if not prompts:
            return self._plain(row)
        prompt = max(rng.choices(prompts, k=3), key=len)
        return Pair(Asked(noisy(prompt, rng)), Asked(rng.choice(wordings[:2])), False)

    def _turned(self, prompt: str, wording: str, same: bool, share: float) -> Pair:
        """Return a pair, in a share of the cases the other way round."""
        if self._rng.random() < share:
            prompt, wording = wording, prompt
        return Pair(Asked(prompt), Asked(wording), same)

    def _swapped(self, text: str, subject: str) -> str | None:
        """Return a text about a subject whose name differs by a digit or a word; ``None`` without one."""
        rng = self._rng
        if subject not in text or not re.search(r"[A-Z0-9]", subject):
            return None
        digits = [m.start() for m in re.finditer(r"\d", subject)]
        if digits and rng.random() < 0.7:
            at = rng.choice(digits)
            other = subject[:at] + str((int(subject[at]) + rng.randint(1, 8)) % 10) + subject[at + 1 :]
        elif rng.random() < 0.5:
            other = f"{subject} {rng.choice(ADDED)}"
        else:
            words, donor = subject.split(), str(rng.choice(self._rows).get("subject") or "")
            capitals = [w for w in donor.split() if w[:1].isupper()] or ["Harrow"]
            words[rng.randrange(len(words))] = rng.choice(capitals)
            other = " ".join(words)
        return text.replace(subject, other) if other.casefold() != subject.casefold() else None

    def _in_context(self, pair: Pair) -> Pair:
        """Return the pair, at times after turns about something else, or after a sentence about something else."""
        rng, kind = self._rng, self._rng.random()
        if kind > 0.10 or pair.prompt.before:
            return pair
        row = rng.choice(self._rows)
        question = rng.choice(row["rephrasings"])
        if kind < 0.03:
            return pair._replace(prompt=Asked(f"{rng.choice(LEADS)} {pair.prompt.text}"))
        return pair._replace(prompt=Asked(pair.prompt.text, (noisy(question, rng), str(row["target"]))))

    def _chat(self, row: Row) -> Pair:
        rng = self._rng
        wording = asked(rng.choice([row["prompt"], *row["rephrasings"]]))
        same = rng.random() < 0.5
        if same and rng.random() < 0.25 and (moved := self._moved(asked(rng.choice(row["chat_same"])), row)):
            return Pair(moved, wording, False)
        return Pair(asked(rng.choice(row["chat_same" if same else "chat_other"])), wording, same)

    def _moved(self, chat: Asked, row: Row) -> Asked | None:
        """Return a conversation that asks the same about another subject; ``None`` if it does not name its subject."""
        other = self._rng.choice([r for r in self._rng.choices(self._rows, k=4) if r["lang"] == row["lang"]] or [None])
        if other is None or not other.get("subject") or not any(row["subject"] in turn for turn in chat.before):
            return None
        turns = [turn.replace(row["subject"], other["subject"]) for turn in (*chat.before, chat.text)]
        named = [word for word in row["subject"].split() if word[:1].isupper() or word[:1].isdigit()]
        if not named or any(word in turn for word in named for turn in turns):
            return None
        return Asked(turns[-1], tuple(turns[:-1]))


ADDED = (
    "Pro", "II", "Junior", "North", "Plus", "3", "Studio", "Group", "Jr.", "2", "Heights", "Mini", "Max",
    "Park", "Lite", "XL", "East", "Point", "Classic", "Club", "Light", "Hall", "Green", "Old", "S", "Business",
    "Kids", "Air",
)  # fmt: skip
LEADS = (
    "The bus was late again.", "I have a cold today.", "Two swans crossed the pond.",
    "My neighbour bought a piano.", "It rained all night in the valley.", "The lamp in the hall is broken.",
    "We had soup for lunch.", "He won the match.", "A parcel came for the third floor.",
    "The committee met on Tuesday.", "Her sister studies law in Leeds.", "Sales rose by four per cent.",
    "The album was recorded in 1994.", "The river is low this summer.", "Nobody answered the phone.",
    "The paint is still wet.", "I'm back from my holidays.", "Our cat sleeps on the printer.",
)  # fmt: skip
Source = Callable[[], Pair]


def batches(
    sources: Sequence[tuple[float, Source]], size: int, tokens: int, rng: random.Random
) -> Iterator[list[Pair]]:
    """Yield batches of pairs of like length without end.

    Args:
        sources: makers of pairs, each with its share.
        size: pairs of a batch at most.
        tokens: words of a batch, counted with padding, at most; long pairs come in smaller batches.
        rng: the source of randomness.
    """
    shares, makers = zip(*sources, strict=True)
    while True:
        pool = [rng.choices(makers, shares)[0]() for _ in range(size * 16)]
        pool.sort(key=length)
        groups: list[list[Pair]] = [[]]
        for pair in pool:
            if groups[-1] and (len(groups[-1]) == size or (len(groups[-1]) + 1) * length(pair) > tokens):
                groups.append([])
            groups[-1].append(pair)
        rng.shuffle(groups)
        yield from groups


def length(pair: Pair) -> int:
    """Return about how many tokens a pair has."""
    characters = sum(map(len, (pair.prompt.text, *pair.prompt.before, pair.wording.text, *pair.wording.before)))
    return 5 + characters // 4
