"""The command that makes a page of runs; what draws it is imported once it is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...text import plain
from ..options import Json
from ..terminal import figure_table, note, put, put_json, shell

if TYPE_CHECKING:
    from ...evaluation.report.read import Run

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that `meloedit eval --out DIR` made.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where page and drawings go.", show_default="the first RUN"),
]


def report(runs: Runs, out: Out = None, as_json: Json = False) -> None:
    """Make one HTML page of runs: tables, curves, worst cases.

    The page needs nothing beside it; its drawings are written as PNG files as well.

    Example: meloedit report runs/zsre runs/scotus --out page
    """
    from ...evaluation.report.page import write_report

    made = write_report(runs, out)
    for run in made.runs:
        if not run.finished:
            note(f"{shell(run.folder)} is {plain(run.progress())}")
    if as_json:
        put_json({"html": str(made.html), "figures": [str(path) for path in made.figures]})
        return
    for run in made.runs:
        _show(run)
    names = ", ".join(path.name for path in (made.html, *made.figures))
    put(f"in {shell(made.html.parent)}: {names}")


def _show(run: Run) -> None:
    """Print the main metrics of a run as a table."""
    from ...evaluation.report.table import MAIN, MISSING, ROUTES, metric, show

    main = ROUTES if run.routing else MAIN
    names = [name for name in main if any(name in figures for figures in run.methods.values())]
    rows = [
        [plain(method), *(show(figures[n].value, metric(n).share) if n in figures else MISSING for n in names)]
        for method, figures in run.methods.items()
    ]
    put(f"{run.text('task')}, {run.text('model')}, {run.text('protocol')}")
    figure_table([metric(name).label for name in names], rows)
    put("")
