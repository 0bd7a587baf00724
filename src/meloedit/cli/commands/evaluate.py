"""The command ``eval``: score methods on a task under a named protocol. Torch is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MeloEditError
from ...text import counted
from ..eval_options import EvalOptions, GivenOptions, read_options
from ..loading import load
from ..options import with_options
from ..terminal import note, progress_display, put, put_figures, put_json, quoted, report_if_stopped

if TYPE_CHECKING:
    from ...types import Progress
    from ...workers.executors import Executor


@with_options(GivenOptions)
def evaluate(given: GivenOptions) -> None:
    """Score editing methods on a task.

    All edits come first. Then the methods answer by free generation, on rephrasings that were never trained, beside
    the unedited model: see docs/evaluation.md. A run that was interrupted goes on where it stopped. Workers
    (--executor) run several methods at once; what their neighbours take shows in the figures of time.

    Example: meloedit eval --task zsre --data facts.jsonl --model smollm2 --method melo,grace --edits 100 --out run
    """
    options = read_options(given)
    from ...evaluation.run.folder import RunFolder, check_parts, locked
    from ...evaluation.run.plan import PROTOCOLS
    from ...workers.executors import executor_of

    executor = executor_of(given.executor.value, given.workers, given.address)
    if executor is not None and options.routing:
        raise MeloEditError("--executor: runs of --routing train nothing and take this process alone: leave it out")

    folder = Path(options.out)
    check_parts(folder, options.protocol, PROTOCOLS)
    plans, distractors = _plans(options, [item.partition(".")[0] for item in given.settings or []])
    with locked(folder), report_if_stopped(lambda: _finished(folder, options)), progress_display() as progress:
        paths = [folder if len(plans) == 1 else folder / plan.protocol for plan in plans]
        runs = [
            RunFolder(path, plan.configuration(), folder / "states") for path, plan in zip(paths, plans, strict=True)
        ]
        results = [
            (run.path, _run(options, plan, distractors, run, progress, executor))
            for run, plan in zip(runs, plans, strict=True)
        ]
    if given.as_json:
        put_json(results[0][1] if len(results) == 1 else [result for _, result in results])
        return
    for path, result in results:
        _show(path, result)


def _finished(folder: Path, options: EvalOptions) -> str:
    """Return what a command that was stopped leaves: of learning, which is kept elsewhere, it may be all."""
    from ...evaluation.run.folder import LOCK
    from ...methods import method_class

    kept = [path for path in folder.rglob("*") if path.is_file() and path != folder / LOCK]
    text = f"what is finished is kept in {quoted(folder)}" if kept else f"nothing is finished in {quoted(folder)}"
    learns = [name for name in options.method if method_class(name).learns]
    learned = f", what {' and '.join(learns)} learned so far elsewhere" if learns else ""
    return f"{text}{learned}: the same command goes on"


def _plans(options: EvalOptions, set_here: list[str]) -> tuple[list[Any], list[Any]]:
    """Read the files and check everything that can be checked before any work.

    Args:
        options: what to run.
        set_here: the methods that the command line has settings for.

    Returns:
        A plan per protocol, and the edits of --distractors.
    """
    from ...evaluation.run.plan import PROTOCOLS, RunPlan
    from ...evaluation.tasks.registry import load_task
    from ...methods import method_class, method_names

    if options.routing:
        _check_routing(options)
    else:
        _check_protocols(options, PROTOCOLS)
    methods = [method_class(name) for name in options.method]
    names = method_names()  # a file of settings may be for more methods than those that run
    unused = [name for name in options.settings if name not in options.method]
    if unknown := [name for name in unused if name in set_here or name not in names]:
        known = "is not among --method" if unknown[0] in names else f"is no method; there are: {', '.join(names)}"
        raise MeloEditError(f"a setting is given for {unknown[0]!r}, which {known}")
    settings = {kind.name: options.settings.get(kind.name, {}) for kind in methods}
    for kind in methods:
        kind.read_settings(settings[kind.name])
    task = load_task(options.task, options.data, options.seed, options.protocol[0], options.rephrases, options.near)
    if not task.only_wrong:
        task.take(options.edits)
    for kind in methods:
        kind.check_task(task.name, task.kind)
    more = {name: getattr(options, name) for name in ("rephrases", "near", "device", "dtype")}
    distractors, files = _distractors(options)
    if options.routing:
        more["distractors"] = files
    size = (options.edits, options.seed, options.limit, options.every, options.prefixes)
    plans = [RunPlan(task, protocol, options.model, settings, *size, more) for protocol in options.protocol]
    return plans, distractors


def _check_protocols(options: EvalOptions, known: Mapping[str, str]) -> None:
    for protocol in options.protocol:
        if protocol not in known:
            raise MeloEditError(f"no protocol {protocol!r}; there are: {', '.join(known)}")
    if len(options.protocol) > 1 and (options.every or {"immediate", "single", "paper"} & set(options.protocol)):
        raise MeloEditError("--protocol: retention and teacher-forced alone can share a run, and without --every")
    if options.distractors:
        raise MeloEditError("--distractors goes with --routing")


def _check_routing(options: EvalOptions) -> None:
    from ...evaluation.routing.retrievers import RETRIEVERS

    for option, given in (("--prefixes", options.prefixes), ("--distractors", options.distractors)):
        if given and options.task == "pairs":
            raise MeloEditError(f"{option} does not fit task pairs: each edit is alone in the index")
    if unknown := [name for name in options.method if name not in RETRIEVERS]:
        raise MeloEditError(f"--routing: method {unknown[0]} is not measured alone; these are: {', '.join(RETRIEVERS)}")


def _distractors(options: EvalOptions) -> tuple[list[Any], list[list[str]]]:
    """Read the edits that are stored beside the task's and not scored.

    Returns:
        The edits, and the name and sha256 of each file.
    """
    from ...evaluation.tasks.registry import load_task, task_of

    tasks = [load_task(task_of(path), [path], options.seed, "routing") for path in options.distractors]
    edits = [replace(item.edit, metadata={"subject": item.subject}) for task in tasks for item in task.items]
    return edits, [[str(file["name"]), str(file["sha256"])] for task in tasks for file in task.files]


def _run(
    options: EvalOptions,
    plan: Any,
    distractors: list[Any],
    folder: Any,
    progress: Progress,
    executor: Executor | None,
) -> dict[str, Any]:
    from ...evaluation.run.runner import Runner
    from ...evaluation.run.worked import silent

    load_quietly = partial(load, options.model, options.device, options.dtype, silent)
    progress(f"loading {options.model}", 0, 1)
    for name, number in plan.task.left_out():
        note(f"{plan.task.name}: {number:,} {name} left out")
    if options.routing:
        from ...evaluation.routing.pairs import PairsRunner
        from ...evaluation.routing.runner import RoutingRunner

        kind = PairsRunner if plan.task.name == "pairs" else RoutingRunner
        return kind(plan, distractors, folder, load_quietly, progress).run()
    return Runner(plan, folder, load_quietly, progress, executor).run()


def _show(folder: Path, result: Mapping[str, Any]) -> None:
    """Print the figures that were measured."""
    from ...evaluation.metrics.columns import EVAL, columns_of

    methods = result["methods"]
    columns = columns_of(result["task"], result["protocol"], EVAL)
    shown = [name for name in columns if any(name in figures for figures in methods.values())]
    rows = [[name, *(_cell(figures.get(metric)) for metric in shown)] for name, figures in methods.items()]
    put(f"{result['task']}, {result['protocol']}, {counted(result['edits'], 'edit')} on {result['model']}")
    put_figures([name.replace("_", " ") for name in shown], rows)
    put("")
    put(f"in {quoted(folder)}: result.json, observations; for a page: meloedit report {quoted(folder)}")


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3g}" if figure["value"] >= 10 else f"{figure['value']:.3f}"
