"""``meloedit harness``: general ability of an edited model, by EleutherAI's lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import MeloEditError
from ..loading import opened
from ..options import Device, DtypeName, Json, ModelName, StorePath
from ..terminal import progress, put_json, table


def harness(
    store: StorePath,
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Tasks of the harness.")],
    include: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder with tasks of your own.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Documents of each task; default: all.")] = None,
    shots: Annotated[
        int | None, typer.Option(metavar="K", min=0, help="Examples before each question; default: the task's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Continuations scored at once.")] = 8,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Score general ability by the lm-evaluation-harness.

    Each task is run with the edits and without.

    Example: meloedit harness facts.melo --tasks mytask --include DIR --limit 200
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise MeloEditError("--tasks is empty: give names of tasks, separated by commas")
    if include is not None and not include.is_dir():
        raise MeloEditError(f"--include {include}: no such folder")
    from ...evaluation.harness import find_tasks, run_harness

    manager = find_tasks(names, include)
    with progress() as tell, opened(store, model, device, dtype, tell) as editor:
        tell("running the harness", 0, 2)
        found = run_harness(editor, names, manager, limit, shots, batch_size)
    if as_json:
        put_json(found)
        return
    rows = [
        (task, metric, f"{value:.4f}", f"{found['unedited'][task][metric]:.4f}")
        for task, own in found["edited"].items()
        for metric, value in own.items()
    ]
    table(["task", "metric", "with edits", "without"], rows)
