"""Data sets that need a split: SCOTUS cases by year and topic, and GPT-3's biographies by sentence.

Errors name file, line and field, since such files come from many hands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import EditError
from .records import read_records

TOPICS = (
    "Criminal Procedure",
    "Civil Rights",
    "First Amendment",
    "Due Process",
    "Privacy",
    "Attorneys",
    "Unions",
    "Economic Activity",
    "Judicial Power",
    "Federalism",
    "Federal Taxation",
)
"""The topics of a SCOTUS classifier, in the order of its labels."""
AREAS = (*range(1, 11), 12)
"""The SCDB issue areas of these topics; cases of other areas (interstate relations and the like) are skipped."""

LAST_UPSTREAM, LAST_EDITS = 1990, 2009
"""The last year that a SCOTUS classifier is trained on, and the last year that edits come from."""
HELD_OUT = 0.15
"""The share of the training years that is never trained on."""


@dataclass(frozen=True)
class Case:
    """An opinion of the Supreme Court: the text that a classifier reads, its right topic (of ``TOPICS``), its year."""

    id: str
    text: str
    topic: str
    year: int

    @property
    def label(self) -> int:
        """The topic's number among the classifier's labels."""
        return TOPICS.index(self.topic)


@dataclass(frozen=True)
class Split:
    """SCOTUS cases by use: training the classifier, its upstream test, edits, and cases after the last edit's year."""

    train: list[Case]
    held_out: list[Case]
    edits: list[Case]
    later: list[Case]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a biography: ``prompt`` is the text before it, ``bio`` the biography's number."""

    prompt: str
    target: str
    bio: int


def scotus_cases(path: str | Path) -> list[Case]:
    """Read the primary opinion of each case of one of the eleven topics.

    Raises:
        EditError: naming file, line and field, if a row is not a case.
    """
    topics = dict(zip(AREAS, TOPICS, strict=True))
    cases = []
    for record in read_records(path):
        area = record.number("issue_area_id")
        if "is_primary" not in record or not record.values["is_primary"] or area not in topics:
            continue
        cases.append(Case(record.text("case_id"), record.text("text"), topics[area], record.number("year")))
    return cases


def split(cases: Iterable[Case]) -> Split:
    """Sort cases by year, and hold out ``HELD_OUT`` of the training years.

    A hash of the case's id decides what is held out, so that it does not depend on the other cases or their order.
    """
    parts = Split([], [], [], [])
    for case in cases:
        if case.year > LAST_EDITS:
            parts.later.append(case)
        elif case.year > LAST_UPSTREAM:
            parts.edits.append(case)
        else:
            fraction = int(hashlib.sha256(case.id.encode()).hexdigest()[:8], 16) / 16**8
            (parts.held_out if fraction < HELD_OUT else parts.train).append(case)
    return parts


def hallucinations(edits: str | Path, biographies: str | Path) -> tuple[list[Sentence], list[Sentence]]:
    """Read the edits of GPT-3's biographies, and the accurate sentences of the same biographies.

    An edit's target is Wikipedia's sentence. An accurate sentence is GPT-3's, and no edit may change it; its prompt
    is built in the way of the edits' prompts.

    Raises:
        EditError: naming file, line and field, if a row is unusable or an edit's biography is missing.
    """
    sentences = []
    missing: dict[int, str] = {}  # biography -> the first row that names it
    for record in read_records(edits):
        sentences.append(Sentence(record.text("prompt"), record.text("target_new"), record.number("bio_index")))
        missing.setdefault(sentences[-1].bio, record.where)
    accurate = []
    for record in read_records(biographies):
        bio, texts = record.number("index"), record.nonempty_texts("gpt3_sentences")
        labels = record.nonempty_texts("annotation")
        if len(texts) != len(labels):
            raise EditError(f"{record.where}: {len(texts)} gpt3_sentences and {len(labels)} of annotation")
        if missing.pop(bio, None) is None:
            continue
        title = f"This is a Wikipedia passage about {record.text('concept')}. "
        for j, (text, label) in enumerate(zip(texts, labels, strict=True)):
            if label == "accurate":
                accurate.append(Sentence(title + " ".join(texts[:j]), text, bio))
    if missing:
        bio, where = next(iter(missing.items()))
        raise EditError(f"{where}: {biographies} has no biography {bio} (and {len(missing) - 1} more are missing)")
    return sentences, accurate
