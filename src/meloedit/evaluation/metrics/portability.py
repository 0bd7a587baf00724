"""Metrics of questions whose answer follows from an edit, from observations.

``portability`` asks for an answer that is right word for word. A model that answers in a sentence can know the answer
and miss it. So three measures stand beside it: whether the answer occurs in the text, whether an edit has any of its
questions right (MQuAKE's measure), and how often the unedited model has the answer that held before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .by_edit import Value, by_edit, by_item
from .estimates import Estimate
from .observation import Observation
from .scope_scores import by_kind

SHORT = 3
"""Letters of an answer that occurs in a text only in its own case: ``US`` is a country, ``us`` is not."""


def contains(text: str, answers: Sequence[str]) -> bool:
    """Return whether one of several answers occurs in a text, as whole words; case does not matter.

    Answers of at most ``SHORT`` letters must have their own case, and aliases of one or two small letters do not count:
    data sets list codes of countries and languages among them.

    Args:
        text: what a model wrote.
        answers: the answer, and its aliases.
    """
    return any(
        re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE if len(answer) > SHORT else 0) is not None
        for i, answer in enumerate(answer.strip() for answer in answers)
        if answer and (i == 0 or len(answer) >= SHORT or not answer.islower())
    )


def portability_figures(rows: Sequence[Observation], score: str) -> dict[str, Estimate | None]:
    """Return how often questions that follow from edits are answered right, by the name of the metric.

    Args:
        rows: the observations of these questions.
        score: the key of an observation that says whether its answer is right.
    """
    figures = _of(rows, score) | {"portability_any": _any(rows)}
    for kind, of_kind in by_kind(rows).items():
        figures |= {f"{name}@{kind.replace(' ', '_')}": value for name, value in _of(of_kind, score).items()}
    return figures


def _of(rows: Sequence[Observation], score: str) -> dict[str, Estimate | None]:
    keys = {
        "portability": score,
        "portability_contained": "contained",
        "portability_before": "before",
        "portability_contained_before": "contained_before",
    }
    return {name: by_edit(rows, _value(key)) for name, key in keys.items()}


def _value(key: str) -> Value:
    return lambda row: row.get(key)  # type: ignore[return-value]


def _any(rows: Sequence[Observation]) -> Estimate | None:
    """Return the share of edits, or groups of edits, that have any of their questions right."""
    found: dict[int, bool] = {}
    for row in rows:
        if (right := row["right"]) is not None:
            found[row["item"]] = found.get(row["item"], False) or right
    return by_item((item, float(right)) for item, right in found.items())
