"""The page of a report: one HTML file that needs nothing else, and its drawings as files beside it.

matplotlib is imported late, since it comes with an optional extra.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from ...files import make_folder, write_bytes
from ...text import counted
from ..drawing import check_plots
from .plots import draw_run
from .read import ObservationSummary, Run, parts_of, read_run
from .table import MISSING, UNEDITED, TableRow, make_table, parts
from .template import render
from .values import finite, number, short

PAGE = "report.html"
KINDS = {
    "edits": "Edits that failed",
    "rephrases": "Rephrases answered wrongly",
    "chats": "Chats answered wrongly",
    "near": "Near prompts whose answer changed",
    "far": "Far prompts whose answer changed",
    "upstream": "Upstream prompts whose answer changed",
}
ROUTED_KINDS = {
    "edits": "Edits that their own prompt does not reach",
    "rephrases": "Rephrases that do not reach their edit",
    "chats": "Chats that do not reach their edit",
    "near": "Near prompts that reach an edit",
    "attribute": "Attribute prompts that reach an edit",
    "far": "Far prompts that reach an edit",
}
"""The same for runs that measure routes alone."""
MAX_VALUE = 4000
"""Characters of a value of the provenance; result.json has the whole value."""


@dataclass(frozen=True)
class Report:
    """The files of a report, and its runs."""

    html: Path
    figures: list[Path]
    runs: list[Run]


def check_report() -> None:
    """Check that the packages that a report needs are installed.

    Raises:
        MeloEditError: naming the extra that installs the missing one.
    """
    check_plots()


def write_report(folders: Sequence[Path], out: Path | None = None) -> Report:
    """Write the page of one or several run folders, and its drawings.

    Args:
        folders: the runs, in the order of the page. A folder with runs of several protocols stands for all of them; a
            repeated folder is shown once.
        out: the folder to write to; by default the first run's.

    Raises:
        MeloEditError: if a folder is not a run, a file in it is damaged, or the page cannot be written.
    """
    check_report()
    parts = [part for folder in folders for part in parts_of(folder)]
    runs = [read_run(folder) for folder in {folder.resolve(): folder for folder in parts}.values()]
    out = make_folder(out if out is not None else folders[0])
    labels = _labels(runs)
    sections, files = [], {}
    for at, (run, label) in enumerate(zip(runs, labels, strict=True), 1):
        prefix = "" if len(runs) == 1 else f"{at}-{_slug(label)}-"
        figures = draw_run(run)
        for figure in figures:
            files[f"{prefix}{figure['name']}.png"] = figure["png"]
            figure["file"] = f"{prefix}{figure['name']}.png"
        sections.append(_section(run, label, f"run-{at}", figures))
    page = render("report.html.jinja", sections=sections, combined=_combined(runs, labels), several=len(runs) > 1)
    for name, png in files.items():
        write_bytes(out / name, png)
    write_bytes(out / PAGE, page.encode("utf-8", "backslashreplace"))
    return Report(out / PAGE, [out / name for name in files], runs)


def _section(run: Run, label: str, anchor: str, figures: list[dict[str, Any]]) -> dict[str, Any]:
    notes = run.result.get("notes")
    details = run.result.get("details")
    rows = [TableRow(name, figures) for name, figures in run.methods.items()]
    rest = [
        {
            "title": figure["title"],
            "words": figure["words"],
            "alt": figure["alt"],
            "file": figure["file"],
            "data": base64.b64encode(figure["png"]).decode(),
        }
        for figure in figures
    ]
    return {
        "anchor": anchor,
        "label": label,
        "progress": "" if run.finished else run.progress(),
        "sentence": _sentence(run),
        "notes": [short(str(note), 2000) for note in (notes if isinstance(notes, list) else [])] + _faults(run),
        "files": _files(run),
        "provenance": _flat(run.result.get("provenance")),
        "details": _flat(details),
        "table": make_table(rows) if rows else None,
        "parts": [{"name": short(name), "table": make_table(of_part)} for name, of_part in parts(rows).items()],
        "figures": rest,
        "cases": [_cases(name, seen, ROUTED_KINDS if run.routing else KINDS) for name, seen in run.seen.items()],
    }


def _faults(run: Run) -> list[str]:
    """Return sentences on what a run's files lack."""
    notes = [f"{short(name)}: the last observation is cut off and left out" for name, s in run.seen.items() if s.torn]
    for name in run.unscoped():
        notes.append(f"{short(name)} has no threshold: it always finds an edit, and where it would stop is not drawn")
    for name, figures in run.methods.items():
        if name not in run.seen:
            notes.append(f"{short(name)}: no observations, so neither routes nor distances nor cases are shown")
        if empty := [metric for metric, measured in figures.items() if not finite(measured.value)]:
            notes.append(f"{short(name)}: {short(', '.join(empty))}: not a finite number")
    return notes


def _sentence(run: Run) -> str:
    names = [short(name) for name in run.names() if name != UNEDITED]
    where = f"the model {run.text('model')}, from the task {run.text('task')}"
    scored = f"scored by the protocol {run.text('protocol')}"
    edits = counted(int(run.edits), "edit") if run.edits is not None and finite(run.edits) else "edits"
    if not names and UNEDITED in run.names():
        return f"The unedited model alone, without any of the {edits}: {where}, {scored}."
    who = f"{counted(len(names), 'method')} ({', '.join(names)})" if names else "No method yet"
    each = " each" if len(names) > 1 else ""
    beside = ", beside the unedited model" if UNEDITED in run.names() else ""
    past, present = ("routed prompts to", "route prompts to") if run.routing else ("made", "make")
    verb = past if run.finished else f"is to {present}" if len(names) == 1 else f"are to {present}"
    return f"{who} {verb} {edits}{each} on {where}, {scored}{beside}."


def _files(run: Run) -> list[dict[str, str]]:
    given = run.result.get("data")
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    return [{name: _words(row.get(name)) for name in ("name", "role", "rows", "sha256")} for row in rows]


def _cases(name: str, seen: ObservationSummary, titles: Mapping[str, str]) -> dict[str, Any]:
    kinds = [
        {"title": title, "total": seen.worst[where].total, "cases": seen.worst[where].cases()}
        for where, title in titles.items()
        if where in seen.worst
    ]
    return {"method": short(name), "rows": seen.rows, "kinds": kinds}


def _flat(value: Any, name: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Return nested values as pairs of a dotted name and a text."""
    if isinstance(value, dict) and value and depth < 8:
        rows = [_flat(item, f"{name}.{key}" if name else str(key), depth + 1) for key, item in value.items()]
        return [row for part in rows for row in part]
    return [(short(name), _words(value))] if name else []


def _words(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return short(", ".join(_words(item) for item in value), MAX_VALUE)
    if isinstance(value, (dict, list, bool)):
        return short(json.dumps(value, ensure_ascii=False), MAX_VALUE)
    return short(str(value), MAX_VALUE)


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run, just long enough to tell it from the others."""

    def plain(run: Run) -> str:
        return f"{run.text('task')}, {run.text('model')}, {run.text('protocol')}"

    def folder(run: Run) -> str:
        path = run.folder.resolve()
        whole = path.parent if path.name == run.text("protocol") else path  # one of several protocols
        return f"{plain(run)}, {short(whole.name)}"

    def path(run: Run) -> str:
        return f"{plain(run)}, {short(str(run.folder), 1000)}"

    for way in (plain, folder):
        if len({way(run) for run in runs}) == len(runs):
            return [way(run) for run in runs]
    return [path(run) for run in runs]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:60].rstrip("-") or "run"


def _combined(runs: Sequence[Run], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return a table for each task and protocol that several runs share, with the conditions in which they differ."""
    groups: dict[tuple[str, str], list[int]] = {}
    for at, run in enumerate(runs):
        groups.setdefault((run.text("task"), run.text("protocol")), []).append(at)
    tables = []
    for (task, protocol), members in groups.items():
        shared = [runs[at] for at in members]
        rows = [
            TableRow(name, figures, _without(labels[at], task, protocol))
            for at in members
            for name, figures in runs[at].methods.items()
        ]
        if len(members) > 1 and rows:
            title = f"{task}, {protocol}"
            tables.append({"title": title, "table": make_table(rows), "differ": _differ(shared)})
    return tables


def _without(label: str, task: str, protocol: str) -> str:
    """Return a label without the task and protocol, which the whole table shares."""
    return label.removeprefix(f"{task}, ").replace(f", {protocol}", "", 1)


def _differ(runs: Sequence[Run]) -> list[str]:
    """Return the names of the conditions in which runs differ, so that they are not directly comparable."""
    ways: dict[str, Callable[[Run], str]] = {
        "model": lambda run: run.text("model"),
        "number of edits": lambda run: _words(number(run.result.get("edits"))),
        "seeds": partial(_provenance, names=("seed", "seeds")),
        "machine": partial(_provenance, names=("machine", "device", "processor")),
        "data": lambda run: json.dumps(sorted(row["sha256"] for row in _files(run))),
    }
    return [name for name, way in ways.items() if any(way(a) != way(b) for a, b in combinations(runs, 2))]


def _provenance(run: Run, names: Sequence[str]) -> str:
    given = run.result.get("provenance")
    return json.dumps([given.get(name) for name in names], sort_keys=True) if isinstance(given, dict) else ""
