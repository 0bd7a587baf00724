"""The command ``report``: one HTML page about runs of ``meloedit eval``. Drawing is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...text import plain
from ..options import Json
from ..terminal import note, put, put_figures, put_json, quoted

if TYPE_CHECKING:
    from ...evaluation.report.read import Run

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that `meloedit eval --out DIR` wrote.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where page and drawings go.", show_default="the first RUN"),
]


Leaderboard = Annotated[
    bool, typer.Option("--leaderboard", help="Write a table of the methods instead; RUN may be a file of results, too.")
]


def report(runs: Runs, out: Out = None, leaderboard: Leaderboard = False, as_json: Json = False) -> None:
    """Make one HTML page of runs: tables, curves, worst cases.

    The page is one file without links to others; its drawings are also written as PNG files. With --leaderboard it is
    a table with one row for each method, as leaderboard.html, leaderboard.md and leaderboard.json. Runs that cannot be
    compared (another task, model, protocol, number of edits, other files) get tables of their own.

    Example: meloedit report runs/zsre runs/scotus --out page
    """
    if leaderboard:
        _leaderboard(runs, out, as_json)
        return
    from ...evaluation.report.page import write_report

    page = write_report(runs, out)
    for run in page.runs:
        if not run.finished:
            note(f"{quoted(run.folder)} is {plain(run.progress())}")
    if as_json:
        put_json({"html": str(page.html), "figures": [str(path) for path in page.figures]})
        return
    for run in page.runs:
        _show(run)
    names = ", ".join(path.name for path in (page.html, *page.figures))
    put(f"in {quoted(page.html.parent)}: {names}")


def _leaderboard(runs: list[Path], out: Path | None, as_json: bool) -> None:
    """Write a leaderboard, and print its tables."""
    from ...evaluation.report.leaderboard import make_leaderboard, to_json, write_leaderboard

    board = make_leaderboard(runs)
    first = runs[0] if runs[0].is_dir() else runs[0].parent
    files = write_leaderboard(board, out if out is not None else first)
    if as_json:
        put_json(to_json(board))
        return
    if board.apart:
        note(board.apart)
    for each in board.boards:
        table = each.table()
        rows = [
            [f"{row['method']} ({row['of']})" if row["of"] else row["method"], *(cell["text"] for cell in row["cells"])]
            for row in table["rows"]
        ]
        put(each.title)
        put_figures([column["label"] for group in table["groups"] for column in group["columns"]], rows)
        for line in each.notes:
            note(line)
        put("")
    put(f"in {quoted(files[0].parent)}: {', '.join(path.name for path in files)}")


def _show(run: Run) -> None:
    """Print the main metrics of a run as a table."""
    from ...evaluation.metrics.columns import REPORT, columns_of
    from ...evaluation.report.table import MISSING, metric, show

    columns = columns_of(run.text("task"), run.text("protocol"), REPORT)
    names = [name for name in columns if any(name in figures for figures in run.methods.values())]
    rows = [
        [plain(method), *(show(figures[n].value, metric(n).share) if n in figures else MISSING for n in names)]
        for method, figures in run.methods.items()
    ]
    put(f"{run.text('task')}, {run.text('model')}, {run.text('protocol')}")
    put_figures([metric(name).label for name in names], rows)
    put("")
