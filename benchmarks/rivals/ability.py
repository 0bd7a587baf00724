r"""What a model can still do after all edits of a run, by EleutherAI's lm-evaluation-harness, method by method.

    python -m benchmarks.rivals.ability RUN --data counterfact_distinct.jsonl.gz --data nq_open_dev.jsonl.gz \
        --data openwebtext-1000.jsonl.gz --web openwebtext-1000.jsonl.gz --wiki wikitext2_valid.txt.gz \
        --questions nq_open_dev.jsonl.gz --out FILE

RUN is a folder of `meloedit eval --protocol retention` (teacher-forced may be there, too), --data are its files. The
edits that its methods made are read from it. Three tasks are made of files at hand: the next word of web texts
(accuracy), the perplexity of a word of Wikipedia, and NQ's questions with four answers to choose from (accuracy).
What FILE has already is not measured anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.progress import Progress

from meloedit.backbones.loading import load_model
from meloedit.errors import MeloEditError
from meloedit.evaluation.harness import find_tasks, scores_of
from meloedit.evaluation.harness_model import model_of
from meloedit.evaluation.run.context import RunContext
from meloedit.evaluation.run.folder import RunFolder, locked
from meloedit.evaluation.run.method_run import MethodRun
from meloedit.evaluation.run.plan import RunPlan
from meloedit.evaluation.tasks.registry import load_task

from ..shared.local_tasks import METRICS, write_tasks
from ..shared.options import names, option_parser, positive, write


def reopened(run: Path, data: list[str], model: str | None, progress: Any) -> RunContext:
    """Return the context of a finished run.

    Raises:
        MeloEditError: if there is no result, or the files or options are not the run's.
    """
    path = run if (run / "result.json").is_file() else run / "retention"
    if not (path / "result.json").is_file():
        raise MeloEditError(f"{run} holds no result: give a folder of meloedit eval")
    given = json.loads((path / "result.json").read_text("utf-8"))["provenance"]["configuration"]
    more = {name: given[name] for name in ("rephrases", "near", "device", "dtype")}
    protocol = given["protocol"]
    task = load_task(given["task"], data, given["seed"], protocol, given["rephrases"], given["near"])
    size = (given["edits"], given["seed"], given["limit"], given["every"], given["prefixes"])
    settings = {"none": {}, **given["settings"]}
    plan = RunPlan(task, protocol, given["model"], settings, *size, more)
    folder = RunFolder(path, plan.configuration(), run / "states")
    return RunContext(plan, folder, lambda: load_model(model or given["model"]), progress)


def measure(context: RunContext, args: argparse.Namespace, progress: Any) -> dict[str, Any]:
    """Score the tasks on each method with its edits; return the figures by method."""
    if unknown := [name for name in args.methods or () if name not in context.plan.methods]:
        raise MeloEditError(f"--methods: {unknown[0]!r} is not in the run; there: {', '.join(context.plan.methods)}")
    tasks = write_tasks(args.out.with_suffix(""), args.web, args.wiki, args.questions, args.limit)
    manager = find_tasks(tasks, args.out.with_suffix(""))
    found = json.loads(args.out.read_text("utf-8"))["methods"] if args.out.exists() else {}
    for name in context.plan.methods:
        if name in found or (args.methods is not None and name not in args.methods):
            continue
        progress(f"{name}: general ability", len(found), len(context.plan.methods))
        method = MethodRun(context, name).edited()
        try:
            scores = scores_of(model_of(method, args.batch_size), tasks, manager)
        finally:
            method.close()
        found[name] = {task: scores[task][metric] for task, metric in METRICS.items()}
        edits = 0 if name == "none" else len(context.task.items)
        write({"methods": found, "metrics": METRICS, "edits": edits, "documents": args.limit}, args.out)
    return found


def main() -> None:
    """Measure all methods of a run."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--data", action="append", required=True, metavar="FILE", help="the run's files")
    parser.add_argument("--model", help="a folder, where the run's name of the model says nothing")
    for option in ("--web", "--wiki", "--questions"):
        parser.add_argument(option, type=Path, required=True, metavar="FILE")
    parser.add_argument("--methods", type=names, help="these alone, separated by commas")
    parser.add_argument("--limit", type=positive, default=100, help="documents of each task")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    try:
        with Progress() as bar, locked(args.run):
            row = bar.add_task("reading the run", total=None)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(row, description=what, completed=done, total=total)

            measure(reopened(args.run, args.data, args.model, progress), args, progress)
    except MeloEditError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
