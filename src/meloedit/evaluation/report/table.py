"""The table that compares methods: the metrics as columns, the best values, and where a rival is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .read import StoredEstimate
from .values import finite, short

MISSING = "\N{EN DASH}"
UNEDITED = "none"
OURS = "melo"
PART = "@"
"""Stands between the name of a metric and the part of the prompts that it is of."""


@dataclass(frozen=True)
class Metric:
    """A column.

    Attributes:
        group: the columns it stands with.
        label: its heading.
        higher: whether higher is better; None if that is not known.
        share: whether its values lie between 0 and 1.
    """

    group: str
    label: str
    higher: bool | None
    share: bool = True


METRICS = {
    "edit_success": Metric("edits", "edit success", True),
    "f1_edits": Metric("edits", "F1, edits", True),
    "accuracy_edits": Metric("edits", "accuracy, edits", True),
    "ppl_edits": Metric("edits", "perplexity, edits", False, share=False),
    "generality": Metric("generality", "generality", True),
    "f1_generality": Metric("generality", "F1, rephrases", True),
    "accuracy_generality": Metric("generality", "accuracy, rephrases", True),
    "portability": Metric("generality", "portability", True),
    "portability_any": Metric("generality", "portability, any question", True),
    "portability_contained": Metric("generality", "portability, answer in the text", True),
    "portability_before": Metric("generality", "old answer, unedited", None),
    "portability_contained_before": Metric("generality", "old answer in the text, unedited", None),
    "locality_far": Metric("locality", "same answer, far", True),
    "locality_near": Metric("locality", "same answer, near", True),
    "identical_far": Metric("locality", "bit-identical, far", True),
    "identical_near": Metric("locality", "bit-identical, near", True),
    "kl_far": Metric("locality", "KL, far", False, share=False),
    "kl_near": Metric("locality", "KL, near", False, share=False),
    "f1_locality": Metric("locality", "F1, locality", True),
    "accuracy_upstream": Metric("locality", "accuracy, upstream", True),
    "accurate_retention": Metric("locality", "accurate retention", True),
    "ppl_accurate": Metric("locality", "perplexity, accurate", False, share=False),
    "ppl_locality": Metric("locality", "perplexity, locality", False, share=False),
    "right_block_edits": Metric("routing", "right block, edits", True),
    "right_block_rephrases": Metric("routing", "right block, rephrases", True),
    "wrong_block_rephrases": Metric("routing", "wrong block, rephrases", False),
    "right_edit": Metric("routing", "right edit nearest", True),
    "wrong_edit": Metric("routing", "wrong edit nearest", False),
    "coverage_far_1pct": Metric("routing", "coverage, far 1 %", True),
    "coverage_near_5pct": Metric("routing", "coverage, near 5 %", True),
    "auc_far": Metric("routing", "AUC, far", True),
    "auc_near": Metric("routing", "AUC, near", True),
    "reaches_close": Metric("routing", "reach, close", True),
    "reaches_far": Metric("routing", "reach, far wording", True),
    "reaches_terse": Metric("routing", "reach, terse", True),
    "reaches_other_form": Metric("routing", "reach, other form", True),
    "reaches_asks_inside": Metric("routing", "reach, asked inside", True),
    "reaches_chat": Metric("routing", "reach, chat", True),
    "reaches_pronoun": Metric("routing", "reach, pronoun", True),
    "fires_same_subject": Metric("routing", "fired, same subject", False),
    "fires_same_subject_hard": Metric("routing", "fired, same subject, hard", False),
    "fires_same_subject_easy": Metric("routing", "fired, same subject, easy", False),
    "fires_same_relation": Metric("routing", "fired, same relation", False),
    "fires_relation_specificity": Metric("routing", "fired, relation specificity", False),
    "fires_forgetfulness": Metric("routing", "fired, forgetfulness", False),
    "fires_contains": Metric("routing", "fired, contains", False),
    "fires_other_chat": Metric("routing", "fired, other chat", False),
    "coverage_same_subject_5pct": Metric("routing", "coverage, same subject 5 %", True),
    "coverage_same_subject_2pct": Metric("routing", "coverage, same subject 2 %", True),
    "coverage_same_relation_5pct": Metric("routing", "coverage, same relation 5 %", True),
    "coverage_same_relation_2pct": Metric("routing", "coverage, same relation 2 %", True),
    "auc_same_subject": Metric("routing", "AUC, same subject", True),
    "auc_same_relation": Metric("routing", "AUC, same relation", True),
    "auc": Metric("routing", "AUC", True),
    "hits": Metric("routing", "hits that fire", True),
    "traps": Metric("routing", "traps that fire", False),
    "coverage_traps_5pct": Metric("routing", "coverage, traps 5 %", True),
    "coverage_traps_2pct": Metric("routing", "coverage, traps 2 %", True),
    "activation_near": Metric("routing", "fired, near", False),
    "activation_far": Metric("routing", "fired, far", False),
    "edits_per_minute": Metric("cost", "edits a minute", True, share=False),
    "answer_time_ratio": Metric("cost", "answer time, times unedited", False, share=False),
    "parameters_per_edit": Metric("cost", "parameters per edit", False, share=False),
    "bytes_per_edit": Metric("cost", "bytes per edit", False, share=False),
    "peak_gigabytes": Metric("cost", "peak memory, GB", False, share=False),
}


@dataclass(frozen=True)
class TableRow:
    """A method's figures; ``of`` names the run in a table of several runs."""

    method: str
    figures: dict[str, StoredEstimate]
    of: str = ""

    @property
    def ours(self) -> bool:
        """Whether the method is this package's."""
        return self.method.startswith(OURS)

    @property
    def name(self) -> str:
        """The method's name, with the run's if there is one."""
        return f"{short(self.method)} ({short(self.of)})" if self.of else short(self.method)


def metric(name: str) -> Metric:
    """Return a metric's column; an unknown metric has its name as the heading."""
    return METRICS.get(name) or Metric("other", short(name), None, share=False)


def columns(rows: Sequence[TableRow]) -> list[str]:
    """Return the metrics that any row has, in the table's order, unknown ones last."""
    there = list(dict.fromkeys(name for row in rows for name in row.figures))
    return [name for name in METRICS if name in there] + [name for name in there if name not in METRICS]


def parts(rows: Sequence[TableRow]) -> dict[str, list[TableRow]]:
    """Return the figures of the parts of prompts (kinds, languages, prefixes), each part by itself.

    Returns:
        For each part, in the order of the figures, the rows with its figures under the metrics' own names.
    """
    tables: dict[str, list[TableRow]] = {}
    for part in dict.fromkeys(name.partition(PART)[2] for row in rows for name in row.figures if PART in name):
        end = PART + part
        of_part = [{n.removesuffix(end): f for n, f in row.figures.items() if n.endswith(end)} for row in rows]
        tables[part] = [replace(row, figures=own) for row, own in zip(rows, of_part, strict=True) if own]
    return tables


def show(value: float | None, share: bool) -> str:
    """Return a number as a table shows it; only a share of exactly 0 or 1 is shown as 0.000 or 1.000."""
    if value is None:
        return "null"
    if not math.isfinite(value):
        return "NaN" if value != value else "∞" if value > 0 else "\N{MINUS SIGN}∞"
    if share:
        text = f"{value:.3f}"
        return text if text not in ("0.000", "1.000") or value in (0, 1) else f"{value:.6f}".rstrip("0")
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def make_table(rows: Sequence[TableRow], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a table for the page: groups of columns, rows of cells, and sentences under the table.

    Args:
        rows: the rows.
        names: the metrics; ``None``: all that any row has, without those of parts of the prompts (``parts``).
    """
    names = [name for name in columns(rows) if PART not in name] if names is None else names
    groups: list[dict[str, Any]] = []
    for name in names:
        known = metric(name)
        if not groups or groups[-1]["name"] != known.group:
            groups.append({"name": known.group, "columns": []})
        groups[-1]["columns"].append({"label": known.label, "higher": known.higher, "name": short(name)})
    marks = {name: _contest(rows, name) for name in names}
    lines = []
    for at, row in enumerate(rows):
        cells = [_cell(row.figures.get(name), name, marks[name].get(at, "")) for name in names]
        lines.append(
            {"method": short(row.method), "of": short(row.of), "ours": row.ours, "cells": _edges(cells, names)}
        )
    sentences = [sentence for name in names if (sentence := _rival_wins(rows, name, marks[name]))]
    close = any(mark == "close" for column in marks.values() for mark in column.values())
    return {"groups": groups, "rows": lines, "sentences": sentences, "close": close}


def _edges(cells: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Mark the cells that start a group of columns."""
    for at, cell in enumerate(cells):
        cell["first"] = at == 0 or metric(names[at]).group != metric(names[at - 1]).group
    return cells


def _cell(figure: StoredEstimate | None, name: str, mark: str) -> dict[str, Any]:
    if figure is None:
        return {"text": MISSING, "interval": "", "n": "", "mark": ""}
    share = metric(name).share
    interval = ""
    low, high = figure.ci or (None, None)
    counted = low is not None and low == high  # not sampled: it has no interval
    if figure.ci is not None and not counted:
        interval = f"[{show(figure.ci[0], share)}, {show(figure.ci[1], share)}]"
    n = f"n = {show(figure.n, share=False)}" if figure.n is not None else ""
    return {"text": show(figure.value, share), "interval": interval, "n": n, "mark": mark}


def _contest(rows: Sequence[TableRow], name: str) -> dict[int, str]:
    """Return by row which values are ``best``, and which ``close``: their interval overlaps one of the best."""
    known = metric(name)
    values = {at: value for at, row in enumerate(rows) if (value := _value(row, name)) is not None}
    there = [at for at in values if rows[at].method != UNEDITED]
    if known.higher is None or len(there) < 2:
        return {}
    best = (max if known.higher else min)(values[at] for at in there)
    top = [at for at in there if show(values[at], known.share) == show(best, known.share)]
    marks = dict.fromkeys(top, "best")
    for at in there:
        if at not in marks and any(_overlap(rows[at].figures[name], rows[other].figures[name]) for other in top):
            marks[at] = "close"
    return marks


def _value(row: TableRow, name: str) -> float | None:
    """Return a figure's value if it is finite."""
    figure = row.figures.get(name)
    return figure.value if figure is not None and finite(figure.value) else None


def _overlap(one: StoredEstimate, other: StoredEstimate) -> bool:
    if one.ci is None or other.ci is None or None in one.ci or None in other.ci:
        return False
    (low, high), (other_low, other_high) = one.ci, other.ci
    return low <= other_high and other_low <= high  # type: ignore[operator]


def _rival_wins(rows: Sequence[TableRow], name: str, marks: dict[int, str]) -> str:
    """Return a sentence if a rival is best in a column and a method of this package is in the table, else nothing."""
    best = [rows[at] for at in sorted(marks) if marks[at] == "best"]
    if not best or any(row.ours for row in best) or not any(row.ours for row in rows):
        return ""
    known = metric(name)
    label = f"{known.label[0].upper()}{known.label[1:]}"
    verb = "is" if len(best) == 1 else "are"
    sentence = f"{label}: {_list([row.name for row in best])} {verb} best ({show(_value(best[0], name), known.share)})"
    ours = {at: value for at, row in enumerate(rows) if row.ours and (value := _value(row, name)) is not None}
    if not ours:
        return f"{sentence}; no method of this package has a value here."
    value = (max if known.higher else min)(ours.values())
    next_best = [at for at in ours if ours[at] == value]
    close = ", and their intervals overlap" if any(marks.get(at) == "close" for at in next_best) else ""
    names = _list([rows[at].name for at in next_best])
    return f"{sentence}, ahead of {names} ({show(value, known.share)}){close}."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
