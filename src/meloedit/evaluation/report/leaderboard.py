"""The leaderboard: one table of methods for each set of runs that can be compared.

Runs can be compared if they have task, files, model, protocol and edits in common, and what else decides which prompts
are scored. Runs that differ get tables of their own, and a line names what differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MeloEditError
from ...files import make_folder, write_bytes
from ..metrics.columns import LEADERBOARD
from .read import Run, parts_of, read_result
from .table import MISSING, UNEDITED, StoredEstimate, TableRow, make_table, metric
from .template import render
from .values import short

RESULT = "result.json"
SCORED = ("seed", "rephrases", "near", "limit", "prefixes", "dtype")
"""Options of a run that decide which prompts are scored, and how exactly the model computes."""
MACHINE = ("processor", "cores", "threads", "device", "torch")
"""What decides the times of a run."""
REMOVAL = {"label": "removal", "higher": None, "name": "how single edits can be removed"}


@dataclass(frozen=True)
class Board:
    """One table.

    Attributes:
        conditions: what its runs have in common, as texts by name.
        rows: a row for each method.
        settings: of each row, the settings that differ from the defaults.
        removal: of each row, how single edits can be removed (exact, approximate, none), if that is known.
        notes: sentences on unfinished runs and on differing machines.
    """

    conditions: dict[str, str]
    rows: list[TableRow]
    settings: list[Any]
    removal: list[str]
    notes: list[str]

    @property
    def title(self) -> str:
        """Task, protocol, edits and model in a line."""
        about = self.conditions
        return f"{about['task']}, {about['protocol']}, {about['edits']} edits on {about['model']}"

    @property
    def columns(self) -> list[str]:
        """The metrics that any row has, in the order of the table."""
        return [name for name in LEADERBOARD if any(name in row.figures for row in self.rows)]

    def table(self) -> dict[str, Any]:
        """Return the table for the page; how edits are removed stands before the cost."""
        table = make_table(self.rows, self.columns)
        at = sum(len(group["columns"]) for group in table["groups"] if group["name"] != "cost")
        before = sum(group["name"] != "cost" for group in table["groups"])
        table["groups"].insert(before, {"name": "removal", "columns": [REMOVAL]})
        for row, text in zip(table["rows"], self.removal, strict=True):
            row["cells"].insert(at, {"text": text, "interval": "", "n": "", "mark": "", "first": True})
        return table


@dataclass(frozen=True)
class Leaderboard:
    """All tables.

    Attributes:
        boards: the tables, in the order of the runs.
        apart: a line that names what tells the tables apart; empty if there is one.
    """

    boards: list[Board]
    apart: str


def make_leaderboard(paths: Sequence[Path]) -> Leaderboard:
    """Read results and sort them into tables.

    Args:
        paths: folders of runs, or files of results (``result.json``, under any name), in the order of the rows.

    Raises:
        MeloEditError: if one is no run, is damaged, or measured routes alone; or none has figures.
    """
    runs = [read_result(path) for path in dict.fromkeys(file for path in paths for file in _files(path))]
    if routing := [run for run in runs if run.routing]:
        raise MeloEditError(f"{routing[0].folder} measured routes alone: a leaderboard is of edits and answers")
    groups: dict[str, list[Run]] = {}
    for run in (run for run in runs if run.methods):  # weights say more than the name of a model
        same = {name: text for name, text in _conditions(run).items() if name != "model"}
        groups.setdefault(json.dumps(same), []).append(run)
    if not groups:
        raise MeloEditError("no method has figures yet: let the runs finish")
    boards = [_board(group) for group in groups.values()]
    return Leaderboard(boards, _apart([board.conditions for board in boards]))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path.resolve()]
    for part in parts_of(path):
        if not (part / RESULT).is_file():
            raise MeloEditError(f"{path} is no run: give a folder that meloedit eval --out DIR wrote, or its {RESULT}")
    return [(part / RESULT).resolve() for part in parts_of(path)]


def _conditions(run: Run) -> dict[str, str]:
    """Return what runs must have in common, as texts by name."""
    origin = _table(run.result, "provenance")
    options = _table(origin, "configuration")
    data = run.result.get("data")
    files = sorted(str(file.get("sha256")) for file in data if isinstance(file, dict)) if isinstance(data, list) else []
    return {
        "task": run.text("task"),
        "protocol": run.text("protocol"),
        "model": run.text("model"),
        "weights": short(str(origin.get("fingerprint") or run.text("model"))),
        "data": ", ".join(files),
        "edits": MISSING if run.edits is None else f"{run.edits:,.0f}",
        **{name: MISSING if options.get(name) is None else short(str(options[name])) for name in SCORED},
    }


def _board(runs: Sequence[Run]) -> Board:
    names = [name for run in runs for name in run.methods]
    rows, settings, removal = [], [], []
    for run in runs:
        given = _table(_table(_table(run.result, "provenance"), "configuration"), "settings")
        for name, figures in run.methods.items():
            rows.append(TableRow(name, figures, _where(run, runs) if names.count(name) > 1 else ""))
            settings.append(given.get(name, {}))
            removal.append(_removal(run, name))
    notes = [f"{short(str(run.folder))} is {run.progress()}" for run in runs if not run.finished]
    if machines := _differing([_machine(run) for run in runs]):
        notes.append(f"The times are of different machines ({', '.join(machines)}): compare them with that in mind.")
    return Board(_conditions(runs[0]), rows, settings, removal, notes)


def _where(run: Run, runs: Sequence[Run]) -> str:
    """Return the shortest end of a run's folder that no other run's folder has."""
    ends = run.folder.parts
    for count in range(1, len(ends)):
        if sum(other.folder.parts[-count:] == ends[-count:] for other in runs) == 1:
            return short("/".join(ends[-count:]))
    return short(str(run.folder))


def _removal(run: Run, name: str) -> str:
    """Return how a method's edits can be removed: as the result says it, else as the method of this name does."""
    if name == UNEDITED:
        return MISSING
    stored = _table(_table(run.result, "details"), name).get("removal")
    if isinstance(stored, str):
        return short(stored)
    from ...methods import METHODS, method_class, removal_of

    return removal_of(method_class(name)) if name in METHODS else MISSING


def _machine(run: Run) -> dict[str, str]:
    origin = _table(run.result, "provenance")
    return {name: short(str(origin.get(name, MISSING))) for name in MACHINE}


def _differing(values: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names whose texts differ, each with its texts."""
    found = {name: list(dict.fromkeys(each[name] for each in values)) for name in values[0]}
    return [f"{name} {' and '.join(texts)}" for name, texts in found.items() if len(texts) > 1]


def _apart(conditions: Sequence[Mapping[str, str]]) -> str:
    if len(conditions) == 1:
        return ""
    names = [name for name in conditions[0] if len({each[name] for each in conditions}) > 1]
    texts = {name: list(dict.fromkeys(each[name] for each in conditions)) for name in names}
    shown = [name if name in ("data", "weights") else f"{name} ({', '.join(texts[name])})" for name in names]
    return f"{len(conditions)} tables, since these runs cannot be compared: they differ in {', '.join(shown)}."


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def write_leaderboard(board: Leaderboard, out: Path) -> list[Path]:
    """Write a leaderboard as ``leaderboard.html``, ``leaderboard.md`` and ``leaderboard.json``; return their paths.

    Raises:
        MeloEditError: if a file cannot be written.
    """
    out = make_folder(out)
    boards = [{"title": each.title, "table": each.table(), "notes": each.notes} for each in board.boards]
    texts = {
        "leaderboard.html": render("leaderboard.html.jinja", boards=boards, apart=board.apart),
        "leaderboard.md": markdown(board),
        "leaderboard.json": json.dumps(to_json(board), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        write_bytes(out / name, text.encode("utf-8", "backslashreplace"))
    return [out / name for name in texts]


def markdown(board: Leaderboard) -> str:
    """Return a leaderboard as Markdown: the best of a column is bold, and a • marks what overlaps its interval."""
    lines = [board.apart, ""] if board.apart else []
    for each in board.boards:
        table = each.table()
        columns = [column["label"] for group in table["groups"] for column in group["columns"]]
        lines += [f"## {_escaped(each.title)}", "", _line(["method", *columns]), _line(["---"] * (len(columns) + 1))]
        for row in table["rows"]:
            name = f"{row['method']} ({row['of']})" if row["of"] else row["method"]
            lines.append(_line([name, *map(_cell, row["cells"])]))
        best = "Bold: the best of the column; the unedited model takes no part."
        close = " •: its interval overlaps that of the best." if table["close"] else ""
        lines += ["", f"In brackets: 95 % intervals. {best}{close} {MISSING}: not measured."]
        lines += ["", *(f"- {_escaped(note)}" for note in (*table["sentences"], *each.notes)), ""]
    return "\n".join(lines)


def _cell(cell: Mapping[str, str]) -> str:
    text = f"**{cell['text']}**" if cell["mark"] == "best" else cell["text"] + (" •" if cell["mark"] == "close" else "")
    return f"{text} {cell['interval']}".strip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def to_json(board: Leaderboard) -> dict[str, Any]:
    """Return a leaderboard as JSON-ready values."""
    return {"apart": board.apart, "tables": [_board_to_json(each) for each in board.boards]}


def _board_to_json(board: Board) -> dict[str, Any]:
    marks = make_table(board.rows, board.columns)["rows"]
    rows = [
        {
            "method": row.method,
            "run": row.of,
            "settings": settings,
            "removal": removal,
            "figures": {
                name: _figure(row.figures[name]) | {"mark": cell["mark"]}
                for name, cell in zip(board.columns, marked["cells"], strict=True)
                if name in row.figures
            },
        }
        for row, settings, removal, marked in zip(board.rows, board.settings, board.removal, marks, strict=True)
    ]
    columns = {name: {"label": metric(name).label, "higher": metric(name).higher} for name in board.columns}
    return {"conditions": board.conditions, "columns": columns, "rows": rows, "notes": board.notes}


def _figure(figure: StoredEstimate) -> dict[str, Any]:
    return {"value": figure.value, "ci": list(figure.ci) if figure.ci else None, "n": figure.n}
