"""Metrics of which prompts reach an edit, apart for each kind of prompt and each language, from observations.

A prompt of an edit *reaches* it if its route is that edit and fires. A near prompt *fires* if any edit answers it. A
metric without a part is of all languages; ``METRIC@en`` is of English, ``@other`` of all other languages together, and
each other language has a part of its own (``@de``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .by_edit import Value, by_edit
from .estimates import Estimate
from .observation import Observation

ENGLISH, OTHER_LANGUAGES = "en", "other"
WHOLES = {
    "same subject hard": "same subject",
    "same subject easy": "same subject",
    "relation specificity": "same subject",
    "forgetfulness": "same subject",
}
"""Kinds of near prompts that also count together, and as what."""
REACHES: Value = lambda row: None if row["routed"] is None else float(row["routed"] == "right")  # noqa: E731
FIRES: Value = lambda row: None if row["routed"] is None else float(row["routed"] in ("right", "wrong"))  # noqa: E731
BySet = Mapping[str, Sequence[Observation]]


def languages(given: Iterable[str | None]) -> dict[str, Callable[[str | None], bool]]:
    """Return the parts of a set of languages, by the end of the metric's name; without any, all languages alone.

    Args:
        given: the languages that there are, in any order; ``None`` where one is not known.
    """
    known = sorted({name for name in given if name is not None})
    parts: dict[str, Callable[[str | None], bool]] = {"": lambda name: True}
    if ENGLISH in known:
        parts[f"@{ENGLISH}"] = lambda name: name == ENGLISH
    if others := [name for name in known if name != ENGLISH]:
        parts[f"@{OTHER_LANGUAGES}"] = lambda name: name is not None and name != ENGLISH
        parts |= {f"@{other}": lambda name, other=other: name == other for other in others}  # type: ignore[misc]
    return parts


def metric_name(stem: str, kind: str) -> str:
    """Return the name of a metric of one kind of prompts."""
    return f"{stem}_{kind.replace(' ', '_')}"


def reach_figures(by_set: BySet) -> dict[str, Estimate | None]:
    """Return how often prompts of each kind reach their edit, or fire, by the name of the metric.

    Only rephrasings, chats and near prompts that have a kind count, and only methods that route.
    """
    figures: dict[str, Estimate | None] = {}
    for sets, stem, value in ((("rephrases", "chats"), "reaches", REACHES), (("near",), "fires", FIRES)):
        rows = [row for name in sets for row in by_set.get(name, ())]
        for kind, of_kind in by_kind(rows).items():
            for part, belongs in languages(row.get("lang") for row in of_kind).items():
                there = [row for row in of_kind if belongs(row.get("lang"))]
                figures[metric_name(stem, kind) + part] = by_edit(there, value)
    return figures


def answers_by_kind(by_set: BySet, score: str) -> dict[str, Estimate | None]:
    """Return the share of right answers of each kind and of each language, as ``generality@terse``.

    Chats count as ``generality@chat`` and so on, and not in the generality of all rephrasings.

    Args:
        by_set: the observations by set.
        score: the key of an observation that says whether its answer is right.
    """
    value: Value = lambda row: row[score]  # type: ignore[literal-required]  # noqa: E731
    figures: dict[str, Estimate | None] = {}
    for name, sets in {
        "edit_success": ("edits",),
        "generality": ("rephrases", "chats"),
        "locality_near": ("near",),
    }.items():
        rows = [row for set_ in sets for row in by_set.get(set_, ())]
        for kind, of_kind in by_kind(rows).items():
            figures[f"{name}@{kind.replace(' ', '_')}"] = by_edit(of_kind, value)
        first = by_set.get(sets[0], ())
        parts = languages(row.get("lang") for row in first)
        for part, belongs in parts.items():
            if part:
                figures[name + part] = by_edit([row for row in first if belongs(row.get("lang"))], value)
    return figures


def by_kind(rows: Iterable[Observation]) -> dict[str, list[Observation]]:
    """Return the rows of each kind, and of the kinds in ``WHOLES`` together; rows without a kind are left out."""
    kinds: dict[str, list[Observation]] = {}
    for row in rows:
        kind = row["kind"]
        if kind is not None:
            for name in (kind, WHOLES.get(kind)):
                if name is not None:
                    kinds.setdefault(name, []).append(row)
    return kinds
