"""The functions and operators that take most of the time of answering and editing.

    python -m benchmarks.speed.profiled --edits zsre_distinct.jsonl.gz

Answering is profiled by function, to see what this package's hooks add to a forward pass. (cProfile slows Python down,
so that Python looks slower than it is.) Editing is profiled by torch operator, to see how much of it are the matmuls
that the floor in ``editing.py`` counts.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from meloedit import Editor
from meloedit.training.trainer import Trainer

from ..shared.edits import numbered_edits, training_examples
from ..shared.made_up import store_with_edits
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, write
from .answering import near, silent

CALLS = 20


def by_function(work: Callable[[], object]) -> dict[str, Any]:
    """Return the milliseconds of one call, and of this package's functions in it, callees included, slowest first."""
    work()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(CALLS):
        work()
    profiler.disable()
    stats = pstats.Stats(profiler)
    functions = {
        f"{Path(file).stem}.{name}": round(1000 * cumulative / CALLS, 3)
        for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()  # type: ignore[attr-defined]
        if "/meloedit/" in file.replace("\\", "/")
    }
    total = round(1000 * stats.total_tt / CALLS, 2)  # type: ignore[attr-defined]
    return {"milliseconds": total, "functions": dict(sorted(functions.items(), key=lambda pair: -pair[1])[:14])}


def by_operator(work: Callable[[], object]) -> dict[str, Any]:
    """Return the CPU seconds of a call, and the share of each operator (without its callees), largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    seconds = {event.key: event.self_cpu_time_total / 1e6 for event in recorded.key_averages()}
    total = sum(seconds.values())
    largest = sorted(seconds.items(), key=lambda pair: -pair[1])[:16]
    return {"seconds": round(total, 2), "shares": {name: round(took / total, 3) for name, took in largest}}


def main() -> None:
    """Run the profiles."""
    parser = option_parser(__doc__, "--edits")
    parser.add_argument("--count", type=positive, default=64, help="edits to train")
    parser.add_argument("--store-size", type=positive, default=10_000, help="edits in the store while answering")
    add_options(parser)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "profiles", "edits": given.count, "held": given.store_size}
    with tempfile.TemporaryDirectory() as folder:
        editor = store_with_edits(Path(folder) / "many.melo", load(given), given.store_size)
        editor.model.eval()
        for name, batch in (
            ("silent_1", silent(editor, 1, 32)),
            ("silent_32", silent(editor, 32, 32)),
            ("judged_32", near(editor, 32, 32)),
        ):

            def forward(batch: dict[str, torch.Tensor] = batch) -> None:
                with torch.no_grad():
                    editor.model(**batch)

            result[name] = by_function(forward)
            print(name, result[name], flush=True)
        editor.unload()
    editor = Editor(*load(given))
    items = training_examples(editor, numbered_edits(given.edits, given.count))
    trainer = Trainer(editor.engine.router, editor.config)
    trainer.train(items[:4])
    result["training"] = by_operator(lambda: trainer.train(items))
    write(result, given.out, **described(given))


if __name__ == "__main__":
    main()
