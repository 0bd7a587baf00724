"""The command ``harness``: the general ability of an edited model, by EleutherAI's lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import MeloEditError
from ..loading import open_editor
from ..options import StoreOptions, split_names, with_options
from ..terminal import progress_display, put_json, put_table


@with_options(StoreOptions)
def harness(
    options: StoreOptions,
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Tasks of the harness.")],
    include: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder with your tasks.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Documents of each task; default: all.")] = None,
    shots: Annotated[
        int | None, typer.Option(metavar="K", min=0, help="Examples before each question; default: the task's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Continuations scored at once.")] = 8,
) -> None:
    """Score general ability by the lm-evaluation-harness.

    Each task runs with the edits and without them.

    Example: meloedit harness facts.melo --tasks mytask --include DIR --limit 200
    """
    names = split_names(tasks)
    if not names:
        raise MeloEditError("--tasks is empty: give names of tasks, separated by commas")
    if include is not None and not include.is_dir():
        raise MeloEditError(f"--include {include}: no such folder")
    from ...evaluation.harness import find_tasks, run_harness

    manager = find_tasks(names, include)
    with progress_display() as progress, open_editor(options, progress) as editor:
        progress("running the harness", 0, 2)
        result = run_harness(editor, names, manager, limit, shots, batch_size)
    if options.as_json:
        put_json(result)
        return
    rows = [
        (task, metric, f"{value:.4f}", f"{result['unedited'][task][metric]:.4f}")
        for task, metrics in result["edited"].items()
        for metric, value in metrics.items()
    ]
    put_table(["task", "metric", "with edits", "without"], rows)
