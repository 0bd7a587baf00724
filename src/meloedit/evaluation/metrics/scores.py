"""From observations to figures: every metric of ``meloedit eval`` is defined here, once.

A share over one row for each edit has a Wilson interval; a mean, and a share over several rows for each edit, has a
bootstrap interval that draws whole edits. The two forms of an NQ question are two rows of one far prompt in this sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..run.observe import Observation
from ..tasks.task import Kind
from .estimates import Estimate, f1, mean, perplexity_of_rows, pooled, share, share_of_groups

Ids = Callable[[str], list[int]]
"""Gives the tokens of a text without special ones."""


def figures(rows: Sequence[Observation], kind: Kind, protocol: str, routes: bool, ids: Ids) -> dict[str, Estimate]:
    """Return the metrics that observations allow; what was not measured is absent.

    Args:
        rows: the observations of one method.
        kind: the task's kind.
        protocol: the protocol they were made under.
        routes: whether the method routes.
        ids: for F1, which is over tokens.
    """
    by_set: dict[str, list[Observation]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    found: dict[str, Estimate | None] = {}
    if protocol == "paper":
        found |= _paper(by_set, kind, ids)
    else:
        found |= _answers(by_set, "agreed" if protocol == "teacher-forced" else "right")
        if kind == "document":
            found |= _accuracies(by_set)
    if kind == "passage":
        found |= _perplexities(by_set)
    found |= _kept(by_set, "agreed" if protocol == "teacher-forced" or kind == "passage" else "right", kind)
    if protocol == "paper":
        found.pop("locality_near", None)
    if routes:
        found |= _routing(by_set, kind)
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def by_edit(
    rows: Iterable[Observation], of: Callable[[Observation], float | None], shares: bool = True
) -> Estimate | None:
    """Return the mean of a figure over rows, with an interval over edits; ``None`` without rows that have it.

    ``shares`` says that the figure lies between 0 and 1.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for row in rows:
        value = of(row)
        if value is not None:
            sums[row["item"]] = sums.get(row["item"], 0.0) + float(value)
            counts[row["item"]] = counts.get(row["item"], 0) + 1
    if not sums:
        return None
    if max(counts.values()) > 1:
        return (share_of_groups if shares else pooled)(list(sums.values()), list(counts.values()))
    if shares and set(sums.values()) <= {0.0, 1.0}:
        return share([value == 1 for value in sums.values()])
    return mean(list(sums.values()))


def _field(name: str) -> Callable[[Observation], float | None]:
    return lambda row: row[name]


def _answers(by_set: dict[str, list[Observation]], score: str) -> dict[str, Estimate | None]:
    names = {"edits": "edit_success", "rephrases": "generality", "portability": "portability"}
    return {name: by_edit(by_set.get(own, ()), _field(score)) for own, name in names.items()}


def _accuracies(by_set: dict[str, list[Observation]]) -> dict[str, Estimate | None]:
    names = {"edits": "accuracy_edits", "rephrases": "accuracy_generality", "upstream": "accuracy_upstream"}
    return {name: by_edit(by_set.get(own, ()), _field("right")) for own, name in names.items()}


def _paper(by_set: dict[str, list[Observation]], kind: Kind, ids: Ids) -> dict[str, Estimate | None]:
    """Return the figures of the paper's Table 2 but perplexity: F1 of answers, accuracy of labels."""
    if kind == "document":
        return _accuracies(by_set)
    if kind == "passage":
        return {}

    def of(row: Observation) -> float | None:
        return None if row["answer"] is None else f1(ids(row["answer"]), ids(row["wanted"] or ""))

    names = {"edits": "f1_edits", "rephrases": "f1_generality", "far": "f1_locality"}
    return {name: by_edit(by_set.get(own, ()), of) for own, name in names.items()}


def _perplexities(by_set: dict[str, list[Observation]]) -> dict[str, Estimate | None]:
    found: dict[str, Estimate | None] = {}
    for own, name in (("edits", "ppl_edits"), ("accurate", "ppl_accurate"), ("far", "ppl_locality")):
        rows = [row for row in by_set.get(own, ()) if row["nll"] is not None and row["tokens"]]
        if rows:
            found[name] = perplexity_of_rows([row["nll"] for row in rows], [row["tokens"] for row in rows])
    return found


def _kept(by_set: dict[str, list[Observation]], score: str, kind: Kind) -> dict[str, Estimate | None]:
    """Return what became of prompts that no edit concerns; a document task's are its upstream cases."""
    found: dict[str, Estimate | None] = {}
    same = _field(score) if kind != "document" else lambda row: _same(row)
    for own, name in (("near", "near"), ("upstream" if kind == "document" else "far", "far")):
        rows = by_set.get(own, ())
        found[f"locality_{name}"] = by_edit(rows, same)
        found[f"identical_{name}"] = by_edit(rows, _field("identical"))
        found[f"kl_{name}"] = by_edit(rows, _field("kl"), shares=False)
    # the words that the model would choose after each token of a true sentence
    found["accurate_retention"] = by_edit(by_set.get("accurate", ()), lambda row: float(row["agreed"] == 1))
    return found


def _same(row: Observation) -> float | None:
    if row["answer"] is None:
        agreed: float | None = row["agreed"]
        return agreed
    return float(row["answer"] == row["base"])


def _routing(by_set: dict[str, list[Observation]], kind: Kind) -> dict[str, Estimate | None]:
    def reached(*what: str) -> Callable[[Observation], float | None]:
        return lambda row: float(row["routed"] in what)

    far = by_set.get("upstream" if kind == "document" else "far", ())
    return {
        "right_block_edits": by_edit(by_set.get("edits", ()), reached("right")),
        "right_block_rephrases": by_edit(by_set.get("rephrases", ()), reached("right")),
        "wrong_block_rephrases": by_edit(by_set.get("rephrases", ()), reached("wrong")),
        "activation_near": by_edit(by_set.get("near", ()), reached("right", "wrong")),
        "activation_far": by_edit(far, reached("right", "wrong")),
    }


def ready(found: dict[str, Estimate]) -> dict[str, Any]:
    """Return figures as JSON-ready values."""
    return {name: estimate.to_dict() for name, estimate in found.items()}
