"""Pairs from public question data (``wordings``, permissive licences alone) and from the package's grammar."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from meloedit.keys import grammar
from meloedit.types import Asked

from .mixture import ADDED, Pair, read_rows
from .noise import noisy

SLOTTED = ("hwu64", "nlu++", "snips")
"""Sources whose intents name a kind of request and not the very same question."""


class Public:
    """Pairs of public data.

    Args:
        folder: the folder of ``wordings``.
        rng: the source of randomness.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._rng = rng
        pairs = [
            p for p in read_rows([folder / "question_pairs.jsonl.gz"]) if not p["licence"].startswith("not stated")
        ]
        self._same = [p for p in pairs if p["same"]]
        self._other = [p for p in pairs if not p["same"]]
        self._intents: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in read_rows([folder / "intents.jsonl.gz"]):
            if row["source"] not in SLOTTED and row["intent"] != "oos":
                self._intents[row["source"], row["intent"]].append(row["text"])
        self._of_source: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for key in self._intents:
            self._of_source[key[0]].append(key)
        relations = [r for r in read_rows([folder / "relations.jsonl.gz"]) if not r.get("in_eval")]
        self._relations = [r for r in relations if len(r["templates"]) >= 2]
        self._entities = {e["label"]: e["names"] for e in read_rows([folder / "entities_by_type.jsonl.gz"])}
        self._names = [name for names in self._entities.values() for name in names]
        self._of_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for relation in self._relations:
            for kind in relation.get("subject_types", [])[:6]:
                self._of_type[kind[0]].append(relation)
        self._grammar = [r for r in grammar._grammar()["relations"] if len(r["wordings"]) > 1]
        self._of_subject: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for relation in grammar._grammar()["relations"]:
            self._of_subject[relation["subject"]].append(relation)

    def __call__(self) -> Pair:
        """Return a pair."""
        make = self._rng.choices([self._question, self._intent, self._relation, self._sentence], [2, 3, 4, 3])[0]
        prompt, wording, same = make()
        return Pair(Asked(noisy(prompt, self._rng)), Asked(noisy(wording, self._rng)), same)

    def _question(self) -> tuple[str, str, bool]:
        pair = self._rng.choice(self._same if self._rng.random() < 0.5 else self._other)
        texts = [pair["a"], pair["b"]]
        self._rng.shuffle(texts)
        return texts[0], texts[1], pair["same"]

    def _intent(self) -> tuple[str, str, bool]:
        """Return two requests of the same or of another intent; intents with slots give pairs that differ alone."""
        key = self._rng.choice(list(self._intents))
        if self._rng.random() < 0.35:
            first, second = self._rng.sample(self._intents[key] * 2, 2)
            return first, second, True
        other = self._rng.choice([k for k in self._of_source[key[0]] if k != key] or [key])
        if other == key:
            return self._question()
        return self._rng.choice(self._intents[key]), self._rng.choice(self._intents[other]), False

    def _relation(self) -> tuple[str, str, bool]:
        rng, relation = self._rng, self._rng.choice(self._relations)
        kinds = [kind[0] for kind in relation.get("subject_types", []) if kind[0] in self._entities]
        name = rng.choice(self._entities[rng.choice(kinds)] if kinds else self._names)
        fill = lambda template, name: template["text"].replace("{subject}", name)  # noqa: E731
        kind = rng.random()
        if kind < 0.45:
            first, second = rng.sample(relation["templates"], 2)
            return fill(first, name), fill(second, name), True
        if kind < 0.8:
            other = rng.choice((self._of_type[rng.choice(kinds)] if kinds else self._relations) or self._relations)
            if other is relation or other["id"] in relation.get("confusable_with", []):
                return self._relation()
            return fill(rng.choice(relation["templates"]), name), fill(rng.choice(other["templates"]), name), False
        first, second = rng.choice(relation["templates"]), rng.choice(relation["templates"])
        return fill(first, self._other_name(name)), fill(second, name), False

    def _sentence(self) -> tuple[str, str, bool]:
        """Return two wordings of the grammar's relations."""
        rng, relation = self._rng, self._rng.choice(self._grammar)
        name = grammar._fill("{%s}" % relation["subject"], rng)
        dress = lambda wording, name: grammar._dress(  # noqa: E731
            wording, grammar._fill(wording.replace("{x}", name), rng), "relation", rng
        )
        kind = rng.random()
        if kind < 0.45:
            first, second = rng.sample(relation["wordings"], 2)
            return dress(first, name), dress(second, name), True
        if kind < 0.8:
            others = [r for r in self._of_subject[relation["subject"]] if r is not relation]
            if not others:
                return self._sentence()
            return (
                dress(rng.choice(relation["wordings"]), name),
                dress(rng.choice(rng.choice(others)["wordings"]), name),
                False,
            )
        first, second = rng.choice(relation["wordings"]), rng.choice(relation["wordings"])
        return dress(first, self._other_name(name)), dress(second, name), False

    def _other_name(self, name: str) -> str:
        rng, kind, words = self._rng, self._rng.random(), name.split()
        if re.search(r"\d", name) and kind < 0.7:
            return re.sub(r"\d", lambda m: str((int(m[0]) + rng.randint(1, 8)) % 10), name)
        if len(words) > 1 and kind < 0.6:
            words[rng.randrange(len(words))] = rng.choice(rng.choice(self._names).split())
            return " ".join(words)
        return f"{name} {rng.choice(ADDED)}" if kind < 0.8 else rng.choice(self._names)
