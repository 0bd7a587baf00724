"""The data sets of the three tasks, read from a path into small records; one line of JSON is one row.

Errors name the file, the line and the field, since such files come from many hands.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...edit import MAX_DEPTH, too_deep
from ...errors import EditError
from ...readers import json_rows, open_text

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
"""The topics of a SCOTUS classifier in the order of its labels."""
AREAS = (*range(1, 11), 12)
"""The SCDB issue areas that are these topics; the others (interstate relations and the like) are left out."""

LAST_UPSTREAM, LAST_EDITS = 1990, 2009
"""The last year that a SCOTUS classifier is trained on, and the last year that edits come from."""
HELD_OUT = 0.15
"""The share of the training years that is never trained on."""


@dataclass(frozen=True)
class Question:
    """A question, its answer, and other wordings of it that are never trained on.

    Attributes:
        prompt: the question.
        answer: what a model must answer.
        rephrases: other wordings, for evaluation only.
        answers: every answer that counts as right; ``answer`` is the first.
    """

    prompt: str
    answer: str
    rephrases: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """An opinion of the Supreme Court: what a classifier reads, and the topic it must say (one of ``TOPICS``)."""

    id: str
    text: str
    topic: str
    year: int

    @property
    def label(self) -> int:
        """The topic's number, as a classifier puts it out."""
        return TOPICS.index(self.topic)


@dataclass(frozen=True)
class Split:
    """SCOTUS cases by what they are for: the classifier's training, its upstream set, the edits, and later cases."""

    train: list[Case]
    held_out: list[Case]
    edits: list[Case]
    later: list[Case]


@dataclass(frozen=True)
class Sentence:
    """The next sentence of a biography: the prompt is all before it; ``bio`` is the biography's number."""

    prompt: str
    target: str
    bio: int


class _Row:
    """One line of a file; asking for a field that is missing, or of another kind, is an error that says where."""

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise EditError(f"{where}: expected an object, not {type(values).__name__}")
        self.where = where
        self.values = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def _get(self, name: str) -> Any:
        if name not in self:
            raise EditError(f"{self.where}: no {name} (fields found: {', '.join(self.values) or 'none'})")
        return self.values[name]

    def text(self, name: str) -> str:
        """Return a field that must hold some text."""
        value = self._get(name)
        if not isinstance(value, str) or not value.strip():
            raise EditError(f"{self.where}: {name} must be a non-empty string, not {value!r}")
        return value

    def number(self, name: str) -> int:
        """Return a field that must be a whole number."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise EditError(f"{self.where}: {name} must be a whole number, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that must be a list of texts, perhaps an empty one."""
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise EditError(f"{self.where}: {name} must be a list of non-empty strings")
        return tuple(value)

    def some(self, name: str) -> tuple[str, ...]:
        """Return a field that must be a list with at least one text."""
        value = self.texts(name)
        if not value:
            raise EditError(f"{self.where}: {name} is an empty list")
        return value


def _rows(path: str | Path) -> Iterator[_Row]:
    name = "standard input" if str(path) == "-" else str(path)
    found = False
    with open_text(path) as stream:
        try:
            begun: list[str] = []  # up to the first line with something in it
            for line in stream:
                begun.append(line)
                if line.strip():
                    break
            listed = bool(begun) and begun[-1].lstrip().startswith("[")
            lines = itertools.chain(begun, stream)
            for where, values in _listed("".join(lines), name) if listed else json_rows(lines, name):
                found = True
                yield _Row(where, values)
        except UnicodeDecodeError as error:
            raise EditError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise EditError(f"{name}: not a readable gzip file ({error})") from None
    if not found:  # every figure over no rows would be a division by zero later
        raise EditError(f"{name}: no rows in it")


def _listed(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of one JSON list, each with the words for where it stands."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EditError(f"{name}: not JSON ({error})") from None
    for number, value in enumerate(values, 1):
        if too_deep(value):
            raise EditError(f"{name}, row {number}: nested more than {MAX_DEPTH} levels deep")
        yield f"{name}, row {number}", value


def zsre_questions(path: str | Path) -> list[Question]:
    """Read zsRE questions with their true answers, or rows of the canonical form with their targets.

    Raises:
        EditError: naming file, line and field, if a row is neither.
    """
    questions = []
    for row in _rows(path):
        if "prompt" in row or "src" not in row:  # a row that is neither is told what the canonical form lacks
            prompt, target = row.text("prompt"), row.text("target")
            rephrases = row.texts("rephrases") if "rephrases" in row else ()
            questions.append(Question(prompt, target, rephrases, (target,)))
        else:
            answers = row.some("answers")
            questions.append(Question(row.text("src"), answers[0], (row.text("rephrase"),), answers))
    return questions


def nq_questions(path: str | Path) -> list[Question]:
    """Read NQ-open questions, each with the question mark that they lack and that the T5 was trained with.

    Raises:
        EditError: naming file, line and field, if a row is no question with answers.
    """
    questions = []
    for row in _rows(path):
        answers = row.some("answer")
        questions.append(Question(row.text("question") + "?", answers[0], (), answers))
    return questions


def scotus_cases(path: str | Path) -> list[Case]:
    """Read the primary opinion of each case that is of one of the eleven topics.

    Raises:
        EditError: naming file, line and field, if a row is no case.
    """
    topics = dict(zip(AREAS, TOPICS, strict=True))
    cases = []
    for row in _rows(path):
        area = row.number("issue_area_id")
        if "is_primary" not in row or not row.values["is_primary"] or area not in topics:
            continue
        cases.append(Case(row.text("case_id"), row.text("text"), topics[area], row.number("year")))
    return cases


def split(cases: Iterable[Case]) -> Split:
    """Sort cases by year, and set some of the training years aside by a digest of their id, so that it is stable."""
    found = Split([], [], [], [])
    for case in cases:
        if case.year > LAST_EDITS:
            found.later.append(case)
        elif case.year > LAST_UPSTREAM:
            found.edits.append(case)
        else:
            place = int(hashlib.sha256(case.id.encode()).hexdigest()[:8], 16) / 16**8
            (found.held_out if place < HELD_OUT else found.train).append(case)
    return found


def hallucinations(edits: str | Path, biographies: str | Path) -> tuple[list[Sentence], list[Sentence]]:
    """Read the edits of GPT-3's biographies, and the accurate sentences of the same biographies.

    An edit's target is Wikipedia's sentence. An accurate sentence's is GPT-3's own, which no edit may change; its
    prompt is made as those of the edits are.

    Raises:
        EditError: naming file, line and field, if a row is not usable or an edit's biography is missing.
    """
    rows = []
    wanted: dict[int, str] = {}  # the biographies of the edits, and where each was first named
    for row in _rows(edits):
        rows.append(Sentence(row.text("prompt"), row.text("target_new"), row.number("bio_index")))
        wanted.setdefault(rows[-1].bio, row.where)
    accurate = []
    for row in _rows(biographies):
        bio, sentences, labels = row.number("index"), row.some("gpt3_sentences"), row.some("annotation")
        if len(sentences) != len(labels):
            raise EditError(f"{row.where}: {len(sentences)} gpt3_sentences and {len(labels)} of annotation")
        if wanted.pop(bio, None) is None:
            continue
        opening = f"This is a Wikipedia passage about {row.text('concept')}. "
        for j, (sentence, label) in enumerate(zip(sentences, labels, strict=True)):
            if label == "accurate":
                accurate.append(Sentence(opening + " ".join(sentences[:j]), sentence, bio))
    if wanted:
        bio, where = next(iter(wanted.items()))
        raise EditError(f"{where}: {biographies} has no biography {bio} (and {len(wanted) - 1} more are missing)")
    return rows, accurate


def web_texts(path: str | Path) -> list[str]:
    """Read web texts.

    Raises:
        EditError: naming file and line, if a row has no text.
    """
    return [row.text("text") for row in _rows(path)]
