"""Runs of EleutherAI's lm-evaluation-harness on an edited model, with its edits and without."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError
from .harness_model import model_of, require

if TYPE_CHECKING:
    from ..editor import Editor


def find_tasks(tasks: Sequence[str], include: Path | None = None) -> Any:
    """Return the harness's task manager, after checking that it has these tasks.

    Args:
        tasks: names of tasks.
        include: a folder with further tasks (``*.yaml``).

    Raises:
        MeloEditError: if there is no such task, or the harness is not installed.
    """
    managers = require().tasks.TaskManager
    if include:  # the harness has thousands of tasks of its own, and takes seconds to read them: not if these are here
        alone = managers(include_path=str(include), include_defaults=False)
        if set(tasks) <= set(alone.all_subtasks):
            return alone
    manager = managers(include_path=str(include) if include else None)
    known = set(manager.all_tasks)
    if missing := [name for name in tasks if name not in known]:
        similar = sorted(name for name in known if missing[0].split("_")[0] in name)[:5]
        advice = f"; like it: {', '.join(similar)}" if similar else ""
        raise MeloEditError(f"the harness has no task {missing[0]!r}{advice}")
    return manager


def run_harness(
    editor: Editor,
    tasks: Sequence[str],
    manager: Any,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
) -> dict[str, dict[str, dict[str, float]]]:
    """Run tasks of the harness on the model with its edits and without.

    Args:
        editor: the edited model.
        tasks: names of tasks; their data must be local or on the hub.
        manager: the task manager that ``find_tasks`` returned.
        limit: documents of each task; ``None``: all.
        shots: examples before each question; ``None``: the task's number.
        batch_size: continuations scored at once.

    Returns:
        For ``edited`` and ``unedited`` the figures by task and metric.

    Raises:
        MeloEditError: if the harness fails, for example since a task's data are not available.
    """
    lm, results = model_of(editor, batch_size), {}
    for name in ("edited", "unedited"):
        with editor.base_model() if name == "unedited" else nullcontext():
            results[name] = scores_of(lm, tasks, manager, limit, shots)
    return results


def scores_of(
    lm: Any, tasks: Sequence[str], manager: Any, limit: int | None = None, shots: int | None = None
) -> dict[str, dict[str, float]]:
    """Run tasks of the harness on a model; return the figures by task and metric.

    Args:
        lm: what ``model_of`` returned.
        tasks: names of tasks.
        manager: the task manager that ``find_tasks`` returned.
        limit: documents of each task; ``None``: all.
        shots: examples before each question; ``None``: the task's number.

    Raises:
        MeloEditError: if the harness fails, for example since a task's data are not available.
    """
    try:
        output = require().simple_evaluate(
            model=lm,
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=False,
        )
    except (OSError, ValueError, KeyError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MeloEditError(f"the harness cannot run {', '.join(tasks)} ({reason})") from None
    return {task: _numbers(metrics) for task, metrics in output["results"].items()}


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a task's figures by metric; the harness names them ``acc,none`` (metric and filter)."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "stderr" not in key
    }
