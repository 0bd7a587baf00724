"""The metrics of ``meloedit eval``, computed from observations; every metric is defined here, once.

A share over one row for each edit has a Wilson interval. A mean, and a share over several rows for each edit, has a
bootstrap interval that draws whole edits. The two forms of an NQ question count as two rows of one far prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..tasks.task import Kind
from .by_edit import Value, by_edit
from .estimates import Estimate, f1, perplexity_of_rows
from .observation import Observation
from .portability import portability_figures
from .scope_scores import answers_by_kind, reach_figures

TokenIds = Callable[[str], list[int]]
"""Returns the token ids of a text without special tokens."""


def figures(rows: Sequence[Observation], kind: Kind, protocol: str, routes: bool, ids: TokenIds) -> dict[str, Estimate]:
    """Return the metrics that can be computed from observations, by name.

    Args:
        rows: the observations of one method.
        kind: the task's kind.
        protocol: the run's protocol.
        routes: whether the method routes.
        ids: tokenizer for F1, which is over token ids.
    """
    by_set: dict[str, list[Observation]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    estimates: dict[str, Estimate | None] = {}
    if protocol == "paper":
        estimates |= _paper(by_set, kind, ids)
    else:
        estimates |= _answers(by_set, "agreed" if protocol == "teacher-forced" else "right")
        if kind == "document":
            estimates |= _accuracies(by_set)
        estimates |= answers_by_kind(by_set, "agreed" if protocol == "teacher-forced" else "right")
        follows = by_set.get("portability", ())
        estimates |= portability_figures(follows, "agreed" if protocol == "teacher-forced" else "right")
    if kind == "passage":
        estimates |= _perplexities(by_set)
    estimates |= _locality(by_set, "agreed" if protocol == "teacher-forced" or kind == "passage" else "right", kind)
    if protocol == "paper":
        estimates.pop("locality_near", None)
    if routes:
        estimates |= _routing(by_set, kind) | reach_figures(by_set)
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def _field(name: str) -> Value:
    return lambda row: row[name]  # type: ignore[literal-required]


def _answers(by_set: dict[str, list[Observation]], score: str) -> dict[str, Estimate | None]:
    names = {"edits": "edit_success", "rephrases": "generality"}
    return {name: by_edit(by_set.get(set_, ()), _field(score)) for set_, name in names.items()}


def _accuracies(by_set: dict[str, list[Observation]]) -> dict[str, Estimate | None]:
    names = {"edits": "accuracy_edits", "rephrases": "accuracy_generality", "upstream": "accuracy_upstream"}
    return {name: by_edit(by_set.get(set_, ()), _field("right")) for set_, name in names.items()}


def _paper(by_set: dict[str, list[Observation]], kind: Kind, ids: TokenIds) -> dict[str, Estimate | None]:
    """Return the metrics of the paper's Table 2 except perplexity: F1 of answers, accuracy of labels."""
    if kind == "document":
        return _accuracies(by_set)
    if kind == "passage":
        return {}

    def f1_of(row: Observation) -> float | None:
        return None if row["answer"] is None else f1(ids(row["answer"]), ids(row["wanted"] or ""))

    names = {"edits": "f1_edits", "rephrases": "f1_generality", "far": "f1_locality"}
    return {name: by_edit(by_set.get(set_, ()), f1_of) for set_, name in names.items()}


def _perplexities(by_set: dict[str, list[Observation]]) -> dict[str, Estimate | None]:
    figures: dict[str, Estimate | None] = {}
    for set_, name in (("edits", "ppl_edits"), ("accurate", "ppl_accurate"), ("far", "ppl_locality")):
        rows = [row for row in by_set.get(set_, ()) if row["nll"] is not None and row["tokens"]]
        if rows:
            sums, tokens = [row["nll"] or 0.0 for row in rows], [row["tokens"] or 0 for row in rows]
            figures[name] = perplexity_of_rows(sums, tokens)
    return figures


def _locality(by_set: dict[str, list[Observation]], score: str, kind: Kind) -> dict[str, Estimate | None]:
    """Return how often answers that no edit concerns are unchanged; for documents these are upstream cases."""
    figures: dict[str, Estimate | None] = {}
    same = _same if kind == "document" else _field(score)
    for set_, name in (("near", "near"), ("upstream" if kind == "document" else "far", "far")):
        rows = by_set.get(set_, ())
        figures[f"locality_{name}"] = by_edit(rows, same)
        figures[f"identical_{name}"] = by_edit(rows, _field("identical"))
        figures[f"kl_{name}"] = by_edit(rows, _field("kl"), shares=False)
    # whether argmax is unchanged after every token of a true sentence
    figures["accurate_retention"] = by_edit(by_set.get("accurate", ()), lambda row: float(row["agreed"] == 1))
    return figures


def _same(row: Observation) -> float | None:
    """Return whether the answer is the unedited model's; without an answer, the share of tokens that agree."""
    if row["answer"] is None:
        return row["agreed"]
    return float(row["answer"] == row["base"])


def _routing(by_set: dict[str, list[Observation]], kind: Kind) -> dict[str, Estimate | None]:
    def reached(*blocks: str) -> Value:
        return lambda row: float(row["routed"] in blocks)

    far = by_set.get("upstream" if kind == "document" else "far", ())
    return {
        "right_block_edits": by_edit(by_set.get("edits", ()), reached("right")),
        "right_block_rephrases": by_edit(by_set.get("rephrases", ()), reached("right")),
        "wrong_block_rephrases": by_edit(by_set.get("rephrases", ()), reached("wrong")),
        "activation_near": by_edit(by_set.get("near", ()), reached("right", "wrong")),
        "activation_far": by_edit(far, reached("right", "wrong")),
    }


def to_json(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return figures as JSON-ready values."""
    return {name: estimate.to_dict() for name, estimate in figures.items()}
