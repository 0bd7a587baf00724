r"""The paper's Tables 2 and 3: all its methods and ours on its three tasks, beside what it reports.

    python -m benchmarks.paper.table2 --scotus scotus_cases.jsonl.gz --classifier CLASSIFIER \
        --zsre zsre_mend_eval_portability_1037.jsonl.gz --zsre-train zsre_mend_train_1000.jsonl.gz \
        --nq nq_open_dev.jsonl.gz --t5 T5 --hallucination wise_hallucination_edits.jsonl.gz \
        --biographies wiki_bio_gpt3_hallucination.jsonl.gz --web openwebtext-1000.jsonl.gz --out DIR

A task whose files are not given is left out. Give the command again to continue one that was stopped: what DIR holds
is not done anew. DIR gets a run of `meloedit eval --protocol paper` for each task, and table2.json, table2.md and
table2.png. The settings stand in table2.toml. `mend` and `serac` learn from edits that are not scored: cases
after 2009, MEND's training questions, and biographies without a scored edit. CLASSIFIER is what
`benchmarks.paper.scotus_classifier` writes; T5 is one that answers NQ's questions as they are asked with "?".
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from meloedit.backbones.loading import DEMO_MODEL, load_model
from meloedit.errors import MeloEditError
from meloedit.evaluation.run.folder import RunFolder, locked
from meloedit.evaluation.run.plan import RunPlan
from meloedit.evaluation.run.runner import Runner
from meloedit.evaluation.tasks.registry import load_task

from ..shared.lessons import of_hallucination, of_scotus, of_zsre, write_lessons
from ..shared.options import names, option_parser, positive, write
from ..shared.published import TABLE
from .table2_shown import draw, markdown

SETTINGS = Path(__file__).with_name("table2.toml")
LESSONS = "LESSONS"
NEEDS = {
    "scotus": ("scotus", "classifier"),
    "zsre": ("zsre", "zsre_train", "nq", "t5"),
    "hallucination": ("hallucination", "biographies", "web"),
}
"""The options that each task needs."""


@dataclass(frozen=True)
class PaperTask:
    """One of the paper's tasks with its files.

    Attributes:
        name: its name in ``meloedit eval``.
        model: a folder, or the name of the demo model.
        data: the files.
        rephrases: most rephrasings of an edit.
    """

    name: str
    model: str
    data: tuple[str, ...]
    rephrases: int | None = None


def tasks_of(args: argparse.Namespace) -> list[PaperTask]:
    """Return the tasks whose files are given.

    Raises:
        MeloEditError: if none is, or some of a task's options are missing.
    """
    given = {name: [getattr(args, option) is not None for option in options] for name, options in NEEDS.items()}
    for name, flags in given.items():
        if any(flags) and not all(flags):
            missing = [
                f"--{option.replace('_', '-')}" for option, there in zip(NEEDS[name], flags, strict=True) if not there
            ]
            raise MeloEditError(f"task {name} also needs {' and '.join(missing)}")
    tasks = {
        "scotus": PaperTask("scotus", args.classifier, (args.scotus,)),
        "zsre": PaperTask("zsre", args.t5, (args.zsre, args.nq), 1),
        "hallucination": PaperTask("hallucination", DEMO_MODEL, (args.hallucination, args.biographies, args.web)),
    }
    found = [task for name, task in tasks.items() if all(given[name])]
    if not found:
        raise MeloEditError("no task has its files: see --help")
    return found


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of each method, by task.

    Raises:
        MeloEditError: if the file cannot be read, or lacks a task.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MeloEditError(f"--settings {path}: {error}") from None
    if missing := [name for name in NEEDS if name not in settings]:
        raise MeloEditError(f"--settings {path}: no settings for task {missing[0]}: give a table [{missing[0]}.METHOD]")
    return settings


def lessons(task: PaperTask, args: argparse.Namespace, scored: Any) -> Path:
    """Write the training edits of a task; return their file."""
    rows = {
        "scotus": lambda: of_scotus(args.scotus),
        "zsre": lambda: of_zsre(args.zsre_train),
        "hallucination": lambda: of_hallucination(args.hallucination, args.biographies, scored),
    }
    return write_lessons(rows[task.name](), args.out / "lessons" / f"{task.name}.jsonl")


def measured(task: PaperTask, args: argparse.Namespace, settings: Mapping[str, Any], bar: Progress) -> dict[str, Any]:
    """Run all methods on a task; return the result of ``meloedit eval``."""
    count = {"scotus": args.cases, "zsre": args.edits, "hallucination": args.passages}[task.name]
    items = load_task(task.name, task.data, protocol="paper", rephrases=task.rephrases)
    path = lessons(task, args, [item.subject for item in items.items[:count]])
    methods = {
        name: {key: str(path) if value == LESSONS else value for key, value in given.items()}
        for name, given in settings.items()
        if args.methods is None or name in args.methods
    }
    more = {"rephrases": task.rephrases, "near": None, "device": None, "dtype": "float32"}
    plan = RunPlan(
        items, "paper", Path(task.model).name, {"none": {}, **methods}, count, limit=args.limit, extra_identity=more
    )
    folder = args.out / task.name
    row = bar.add_task(task.name, total=None)

    def progress(what: str, done: int, total: int) -> None:
        bar.update(row, description=f"{task.name}: {what}", completed=done, total=total)

    with locked(folder):
        run = RunFolder(folder, plan.configuration())
        # a model may be stored in float16, which cmr and lora refuse
        return Runner(plan, run, lambda: load_model(task.model, dtype=torch.float32), progress).run()


def main() -> None:
    """Run the tasks and write the tables."""
    parser = option_parser(__doc__, out=False)
    for option, what in (
        ("--scotus", "SCOTUS cases"),
        ("--classifier", "folder of the classifier"),
        ("--zsre", "questions to edit"),
        ("--zsre-train", "questions to learn from"),
        ("--nq", "upstream questions"),
        ("--t5", "folder of the encoder-decoder"),
        ("--hallucination", "corrected sentences"),
        ("--biographies", "GPT-3's biographies"),
        ("--web", "web texts"),
    ):
        parser.add_argument(option, metavar="FILE", help=what)
    parser.add_argument("--cases", type=positive, default=50, help="edits of SCOTUS")
    parser.add_argument("--edits", type=positive, default=100, help="edits of zsRE")
    parser.add_argument("--passages", type=positive, default=24, help="edits of hallucination")
    parser.add_argument("--limit", type=positive, default=300, help="upstream prompts at most")
    parser.add_argument("--methods", type=names, help="these alone, separated by commas")
    parser.add_argument("--settings", type=Path, default=SETTINGS, metavar="FILE", help="in place of table2.toml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    try:
        settings = read_settings(args.settings)
        known = {name for methods in settings.values() for name in methods}
        if unknown := [name for name in args.methods or () if name not in known]:
            raise MeloEditError(f"--methods: no settings for {unknown[0]!r}; there are: {', '.join(sorted(known))}")
        with Progress() as bar:
            for task in tasks_of(args):
                results[task.name] = measured(task, args, settings[task.name], bar)
    except MeloEditError as error:
        parser.exit(1, f"{error}\n")
    tables = {
        name: {key: result[key] for key in ("model", "edits", "methods", "details", "notes")}
        for name, result in results.items()
    }
    write({"tasks": tables, "published": {name: TABLE[name] for name in tables}}, args.out / "table2.json")
    (args.out / "table2.md").write_text(markdown(tables), encoding="utf-8")
    (args.out / "table2.png").write_bytes(draw(tables))
    print(json.dumps([str(args.out / f"table2.{end}") for end in ("json", "md", "png")]))


if __name__ == "__main__":
    main()
