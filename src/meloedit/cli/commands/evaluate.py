"""``meloedit eval``: score methods on a task under a named protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import MeloEditError
from ..eval_options import Asked, names_of, read_asked
from ..options import Device, DtypeName, Json
from ..terminal import count, figure_table, note, progress, put, put_json, saying, shell

MAIN = (
    "edit_success",
    "generality",
    "portability",
    "locality_near",
    "locality_far",
    "activation_near",
    "activation_far",
)
PAPER = ("f1_edits", "f1_generality", "f1_locality", "accuracy_edits", "accuracy_generality", "accuracy_upstream")
PERPLEXITY = ("ppl_edits", "ppl_accurate", "ppl_locality")
COST = ("edits_per_minute", "answer_time_ratio")


def evaluate(
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="zsre (own questions too), counterfact, mquake, scotus, hallucination."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="The task's files, in any order; repeatable. hf://datasets/OWNER/NAME/FILE."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="A,B", help="Methods; default: melo.")] = None,
    edits: Annotated[int | None, typer.Option(metavar="N", min=1, help="Make the first N edits of the seed.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="retention (default), teacher-forced, immediate, paper; of two each has a subfolder of --out.",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run's folder; a run there goes on.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the order of the edits; default: 0.")] = None,
    rephrases: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Rephrasings of each edit that are scored; default: all.")
    ] = None,
    near: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Near prompts of each edit that are scored; default: all.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Far prompts (of each kind), upstream and accurate ones; default: 500."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Score after every N edits too, for growth curves.")
    ] = None,
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="Score edits behind five system prompts and lead-ins too.")
    ] = False,
    routing: Annotated[
        bool, typer.Option("--routing", help="Measure which edits prompts reach; nothing is trained.")
    ] = False,
    distractors: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="With --routing: edits held beside the task's, not scored; repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.NAME=VALUE", help="A method's setting; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as TOML: task = ..., [settings.grace] eps = 3.")
    ] = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Score editing methods on a task.

    All edits first, then answers by free generation, on rephrasings that were never trained, beside the unedited model:
    see docs/evaluation.md. A run that was interrupted goes on where it stopped.

    Example: meloedit eval --task zsre --data facts.jsonl --model smollm2 --method melo,grace --edits 100 --out run
    """
    given = {"task": task, "data": data, "model": model, "method": names_of(method), "edits": edits, "out": out}
    given |= {"protocol": names_of(protocol), "seed": seed, "rephrases": rephrases, "limit": limit}
    given |= {"near": near, "every": every}
    given |= {
        "routing": routing or None,
        "distractors": distractors,
        "prefixes": prefixes or None,
        "device": device,
        "dtype": dtype and dtype.value,
    }
    asked = read_asked(config, given, settings or [])
    from ...evaluation.run.folder import RunFolder, check_parts, locked
    from ...evaluation.run.plan import PROTOCOLS

    folder = Path(asked.out)
    check_parts(folder, asked.protocol, PROTOCOLS)
    plans, held = _plans(asked)
    kept = f"what is finished is kept in {shell(folder)}: the same command goes on"
    with locked(folder), saying(lambda: kept), progress() as tell:
        places = [folder if len(plans) == 1 else folder / plan.protocol for plan in plans]
        pairs = zip(places, plans, strict=True)
        runs = [RunFolder(place, plan.configuration(), folder / "states") for place, plan in pairs]
        results = [(run.path, _run(asked, plan, held, run, tell)) for run, plan in zip(runs, plans, strict=True)]
    if as_json:
        put_json(results[0][1] if len(results) == 1 else [result for _, result in results])
        return
    for own, result in results:
        _show(own, result)


def _plans(asked: Asked) -> tuple[list[Any], list[Any]]:
    """Check all that can be checked before any work, and read the files; return plans, and edits that are only held."""
    from ...evaluation.run.plan import PROTOCOLS, RunPlan
    from ...evaluation.tasks.registry import load_task
    from ...methods import METHODS, method_class

    if asked.routing:
        _check_routing(asked)
    else:
        _check_protocols(asked, PROTOCOLS)
    methods = [method_class(name) for name in asked.method]
    if strange := [name for name in asked.settings if name not in asked.method]:
        known = "is not among --method" if strange[0] in METHODS else f"is no method; there are: {', '.join(METHODS)}"
        raise MeloEditError(f"a setting is given for {strange[0]!r}, which {known}")
    settings = {kind.name: asked.settings.get(kind.name, {}) for kind in methods}
    for kind in methods:
        kind.read_settings(settings[kind.name])
    task = load_task(asked.task, asked.data, asked.seed, asked.protocol[0], asked.rephrases, asked.near)
    if not task.only_wrong:
        task.take(asked.edits)
    for kind in methods:
        kind.check_task(task.name, task.kind)
    more = {name: getattr(asked, name) for name in ("rephrases", "near", "device", "dtype")}
    held, files = _distractors(asked)
    if asked.routing:
        more["distractors"] = files
    own = (asked.edits, asked.seed, asked.limit, asked.every, asked.prefixes)
    return [RunPlan(task, protocol, asked.model, settings, *own, more) for protocol in asked.protocol], held


def _check_protocols(asked: Asked, known: Mapping[str, str]) -> None:
    for protocol in asked.protocol:
        if protocol not in known:
            raise MeloEditError(f"no protocol {protocol!r}; there are: {', '.join(known)}")
    if len(asked.protocol) > 1 and (asked.every or {"immediate", "paper"} & set(asked.protocol)):
        raise MeloEditError("--protocol: retention and teacher-forced alone can share a run, and without --every")
    if asked.distractors:
        raise MeloEditError("--distractors goes with --routing")


def _check_routing(asked: Asked) -> None:
    from ...evaluation.routing.retrievers import RETRIEVERS

    if strange := [name for name in asked.method if name not in RETRIEVERS]:
        raise MeloEditError(f"--routing: method {strange[0]} is not measured alone; these are: {', '.join(RETRIEVERS)}")


def _distractors(asked: Asked) -> tuple[list[Any], list[list[str]]]:
    """Read edits that are held and not scored; return them, and names and digests of their files."""
    from ...evaluation.tasks.registry import load_task, task_of

    tasks = [load_task(task_of(path), [path], asked.seed, "routing") for path in asked.distractors]
    edits = [replace(item.edit, metadata={"subject": item.subject}) for task in tasks for item in task.items]
    return edits, [[str(file["name"]), str(file["sha256"])] for task in tasks for file in task.files]


def _run(asked: Asked, plan: Any, held: list[Any], folder: Any, tell: Any) -> dict[str, Any]:
    from functools import partial

    from ...evaluation.run.runner import Runner
    from ..loading import load

    load_quietly = partial(load, asked.model, asked.device, asked.dtype, lambda what, done, of: None)
    tell(f"loading {asked.model}", 0, 1)
    for name, number in plan.task.left_out():
        note(f"{plan.task.name}: {number:,} {name} left out")
    if asked.routing:
        from ...evaluation.routing.runner import RoutingRunner

        return RoutingRunner(plan, held, folder, load_quietly, tell).run()
    return Runner(plan, folder, load_quietly, tell).run()


def _show(folder: Path, result: Mapping[str, Any]) -> None:
    """Print the main figures."""
    from ...evaluation.report.table import ROUTES

    methods = result["methods"]
    main = ROUTES if result["protocol"] == "routing" else (*MAIN, *PAPER, *PERPLEXITY, *COST)
    shown = [name for name in main if any(name in figures for figures in methods.values())]
    rows = [[name, *(_cell(own.get(metric)) for metric in shown)] for name, own in methods.items()]
    put(f"{result['task']}, {result['protocol']}, {count(result['edits'], 'edit')} on {result['model']}")
    figure_table([name.replace("_", " ") for name in shown], rows)
    put("")
    put(f"in {shell(folder)}: result.json, observations; for a page: meloedit report {shell(folder)}")


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3g}" if figure["value"] >= 10 else f"{figure['value']:.3f}"
