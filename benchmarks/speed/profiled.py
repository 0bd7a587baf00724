"""Where the time of answering and of editing goes: seconds of the functions and operators that take most of it.

    python -m benchmarks.speed.profiled --edits zsre_distinct.jsonl.gz

Answering is profiled by function (cProfile; its own cost makes Python look slower than it is): what this
package's hooks add to a forward pass. Editing is profiled by operator (torch's profiler): what of it is the matmuls,
which the floor in ``editing.py`` counts, and what is not.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from answering import in_scope, silent
from common import provenance, read_jsonl, write
from filled import filled
from models import add_options, described, load
from torch.profiler import ProfilerActivity, profile

from meloedit import Edit, Editor
from meloedit.engine.planning import plan
from meloedit.training.trainer import Trainer

CALLS = 20


def by_function(work: Callable[[], object]) -> dict[str, Any]:
    """Return milliseconds of one call, and of this package's functions in it with what they call, the largest first."""
    work()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(CALLS):
        work()
    profiler.disable()
    stats = pstats.Stats(profiler)
    own = {
        f"{Path(file).stem}.{name}": round(1000 * cumulative / CALLS, 3)
        for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()  # type: ignore[attr-defined]
        if "/meloedit/" in file.replace("\\", "/")
    }
    total = round(1000 * stats.total_tt / CALLS, 2)  # type: ignore[attr-defined]
    return {"milliseconds": total, "functions": dict(sorted(own.items(), key=lambda pair: -pair[1])[:14])}


def by_operator(work: Callable[[], object]) -> dict[str, Any]:
    """Return the seconds of some work on the CPU and the share of each operator's own time, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    own = {event.key: event.self_cpu_time_total / 1e6 for event in recorded.key_averages()}
    total = sum(own.values())
    largest = sorted(own.items(), key=lambda pair: -pair[1])[:16]
    return {"seconds": round(total, 2), "shares": {name: round(took / total, 3) for name, took in largest}}


def main() -> None:
    """Run the profiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", required=True)
    parser.add_argument("--count", type=int, default=64, help="edits that are trained")
    parser.add_argument("--held", type=int, default=10_000, help="edits held while answering")
    add_options(parser)
    parser.add_argument("--out")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "profiles", "edits": given.count, "held": given.held}
    with tempfile.TemporaryDirectory() as folder:
        editor = filled(Path(folder) / "many.melo", load(given), given.held)
        editor.model.eval()
        for name, batch in (
            ("silent_1", silent(editor, 1, 32)),
            ("silent_32", silent(editor, 32, 32)),
            ("in_scope_32", in_scope(editor, 32, 32)),
        ):

            def forward(batch: dict[str, torch.Tensor] = batch) -> None:
                with torch.no_grad():
                    editor.model(**batch)

            result[name] = by_function(forward)
            print(name, result[name], flush=True)
        editor.detach()
    editor = Editor(*load(given))
    edits = [
        Edit(row["prompt"], row["target"], id=str(i)) for i, row in enumerate(read_jsonl(given.edits, given.count))
    ]
    items = [(planned.edit.id, planned.rows) for planned in plan(editor._live, edits, False)]
    trainer = Trainer(editor.router, editor.config)
    trainer.train(items[:4])
    result["training"] = by_operator(lambda: trainer.train(items))
    write(result | {"provenance": provenance() | described(given)}, given.out)


if __name__ == "__main__":
    main()
