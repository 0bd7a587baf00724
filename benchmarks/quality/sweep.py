r"""Find settings for the rivals of `meloedit eval`, on data that no published figure uses.

    python -m benchmarks.quality.sweep --task zsre --data zsre_mend_train_1000.jsonl.gz --data nq_open_dev.jsonl.gz \
        --method grace --edits 20 --out DIR --result docs/results/sweeps/zsre-grace.json

Each setting of a grid is one run of `meloedit eval`. The best has the largest harmonic mean of edit success,
generality, far and near locality, as far as the data has them: a harmonic mean is low for a method that changes
nothing, and for one that changes everything. With ``--enough SHARE`` settings with so much edit success come before
all others. Finished runs in DIR are not repeated. --set gives a setting that all of the grid have, such as the training
edits of a method that learns beforehand (--set train=FILE): those that the sweep scores are not learned.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from rich.progress import Progress

from meloedit.backbones.loading import DEMO_MODEL, load_model
from meloedit.evaluation.run.folder import RunFolder
from meloedit.evaluation.run.plan import RunPlan
from meloedit.evaluation.run.runner import Runner
from meloedit.evaluation.tasks.registry import load_task
from meloedit.files import json_hash
from meloedit.settings import parse_setting

from ..shared.options import option_parser, positive, write

QA = {"fact": "Question: {prompt}\nAnswer: {target}\n", "form": "{facts}\nQuestion: {prompt}\nAnswer:"}
KEYS = [{"key_layer": "model.layers.8"}]
"""SmolLM2's key layer at the depth of the hallucination preset."""
GRIDS: dict[str, dict[str, list[Any]]] = {
    "melo-paper": {"size": [{"edits_per_block": 10, "rank": 8}], "key": KEYS, "radius": [1.0, 3.0, 10.0]},
    "grace": {"replacement": ["replace_prompt"], "eps": [1.0, 10.0, 50.0]},
    "ft": {"order": [{}, {"edits_per_call": 1000, "batch_size": 8}], "lr": [1e-4, 5e-4, 1e-3]},
    "lora": {"lr": [5e-3, 1e-3, 2e-4], "enough": [0.01]},
    "rome": {
        "search": [{"contexts": 2, "v_lr": 1.0, "v_num_grad_steps": 20, "v_weight_decay": 1e-3}],
        "clamp_norm_factor": [6.0],
        "mean_key": [False, True],
    },
    "memit": {
        "length": [{"clamp_norm_factor": 4.0, "v_weight_decay": 1e-3}],
        "mom2_update_weight": [15.0, 1500.0, 15e3],
    },
    "alphaedit": {
        "length": [{"clamp_norm_factor": 4.0, "v_weight_decay": 1e-3}],
        "nullspace_threshold": [1e-4, 1e-3, 2e-2],
        "L2": [1.0],
    },
    "ultraedit": {"lr": [1e-2, 2e-2], "layers": [2, 3]},
    "locft": {"lr": [5e-4, 1e-3], "passes": [25, 50], "enough": [0.05]},
    "cmr": {"part": [{"depth": 0.5}], "lr": [1e-4, 3e-4], "epochs": [10, 30]},
    "wise": {"edit_lr": [0.1, 1.0], "margins": [{}, {"alpha": 0.5, "beta": 2.0, "gamma": 1.0}]},
    "tpatcher": {"memory": [{"memory_size": 4000, "val_memory_size": 1000}], "eps": [0.0, 0.1], "mlc": [1.0, 10.0]},
    "calinet": {"end": [{"max_steps": 100, "enough": 0.05}], "depth": [0.5, 1.0], "ex_size": [8, 64]},
    "ike": {"k": [4, 16], "choose": ["demonstrations", "facts"]},
    "mend": {"size": [{"rank": 128, "steps": 400}], "lr": [1e-6, 1e-5, 1e-4], "layers": [3]},
    "serac": {"lr": [1e-5, 1e-4], "layers": [6, 12]},
    "rag": {"prompt": [{}, QA], "min_similarity": [0.5, 0.7]},
}
PAPER = ("f1_edits", "f1_generality", "f1_locality", "accuracy_edits", "accuracy_generality", "accuracy_upstream")
SCORES = ("edit_success", "generality", "locality_far", "locality_near")


def settings_of(method: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all combinations of a method's grid; a value that is a dictionary stands for several settings.

    Args:
        method: the method's name.
        given: settings that all have, in place of the grid's.
    """
    names, values = list(GRIDS[method]), GRIDS[method].values()
    combinations: list[dict[str, Any]] = []
    for choice in itertools.product(*values):
        settings: dict[str, Any] = {}
        for name, value in zip(names, choice, strict=True):
            settings |= value if isinstance(value, dict) else {name: value}
        settings |= given
        if settings not in combinations:  # the grid may have varied what is given
            combinations.append(settings)
    return combinations


def main() -> None:
    """Run the sweep."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--method", required=True, choices=list(GRIDS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as train=FILE")
    parser.add_argument("--protocol", default="retention")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first edits of the order")
    parser.add_argument("--edits", type=positive, default=20)
    parser.add_argument("--rephrases", type=positive, default=2)
    parser.add_argument("--limit", type=positive, default=50)
    parser.add_argument("--enough", type=float, default=0.0, help="edit success that comes before the mean")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--result", help="file for the result")
    args = parser.parse_args()
    task = load_task(args.task, args.data, protocol=args.protocol, rephrases=args.rephrases)
    task = replace(task, items=task.items[args.skip :])
    runs = []
    with Progress() as bar:
        grid = settings_of(args.method, dict(map(parse_setting, args.set)))
        for settings in bar.track(grid, description=args.method):
            plan = RunPlan(task, args.protocol, args.model, {args.method: settings}, args.edits, limit=args.limit)
            path = args.out / f"{args.task}-{args.protocol}-{args.method}-{json_hash([settings, args.edits])}"
            folder = RunFolder(path, plan.configuration(), answers=args.out / "answers")
            result = Runner(plan, folder, lambda: load_model(args.model), lambda *_: None).run()
            figures = result["methods"][args.method]
            names = [name for name in (*SCORES, *PAPER) if name in figures]
            scores = [figures[name]["value"] for name in names]
            runs.append({"settings": settings, "mean": round(harmonic_mean(scores), 4), "figures": figures})
            runs[-1] |= {"details": result["details"][args.method]}
            print(runs[-1]["mean"], settings, dict(zip(names, scores, strict=True)), flush=True)
    success = [min(run["figures"].get("edit_success", {}).get("value", 0.0), args.enough) for run in runs]
    best = max(zip(success, runs, strict=True), key=lambda pair: (pair[0], pair[1]["mean"]))[1]
    files = [{key: item[key] for key in ("name", "sha256")} for item in task.files]
    what = {"task": args.task, "protocol": args.protocol, "model": Path(args.model).name, "method": args.method}
    what |= {"edits": args.edits, "skip": args.skip, "data": files}
    write(what | {"best": best["settings"], "runs": runs}, args.result)


if __name__ == "__main__":
    main()
