"""Editing by two workers against one, in turns.

    python -m benchmarks.speed.workers --edits zsre_distinct.jsonl.gz --count 256

Each round makes the same edits in a new store with one worker and with two (processes of this machine, one thread each;
``--executor ray`` for actors), and once in this process. Time is by the clock, from the call to the last report, so the
start of the workers counts: two quiet cores are needed for a figure that means anything, and the rounds say how far
apart they are. The stores are compared bit by bit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from meloedit import Edit, Editor
from meloedit.backbones.loading import load_model
from meloedit.workers.executors import Executor, Ray, Spawn

from ..shared.edits import numbered_edits
from ..shared.options import option_parser, positive, write
from ..shared.timing import ratio_of, seconds


def contents(editor: Editor) -> list[Any]:
    """Return the ids of a store's edits, and every number of their blocks and keys, as bytes."""
    stored = editor.edits()
    stacks = [*editor.store.block_stacks([one.holder for one in stored])]
    stacks += editor.store.key_stacks([one.record for one in stored])
    tensors = [(owners, {name: part.numpy().tobytes() for name, part in found.items()}) for owners, found in stacks]
    return [[one.edit.id for one in stored], tensors]


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--edits")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--count", type=positive, default=256)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--executor", choices=["spawn", "ray"], default="spawn")
    parser.add_argument("--workers-alone", action="store_true", help="leave this process out: it takes as long as one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    edits = numbered_edits(given.edits, given.count)
    kind = Spawn if given.executor == "spawn" else Ray
    executors: dict[str, Executor | None] = {
        "here": None,
        "one": kind(1, threads=1, model=given.model),
        "two": kind(2, threads=1, model=given.model),
    }
    if given.workers_alone:
        del executors["here"]
    model, tokenizer = load_model(given.model)
    took: dict[str, list[float]] = {name: [] for name in executors}
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            first = None
            for name, executor in executors.items():
                editor = Editor(model, tokenizer, store=Path(folder) / f"{name}-{number}.melo")
                editor.prepare()
                took[name].append(seconds(lambda run=(editor, executor): _edit(*run, edits)))  # type: ignore[misc]
                found = contents(editor)
                first = first or found
                equal &= found == first
                editor.unload()
            print({name: round(times[-1], 1) for name, times in took.items()}, "equal" if equal else "NOT EQUAL")
    result: dict[str, Any] = {"task": "editing by workers", "executor": given.executor, "edits": len(edits)}
    result |= {"two_over_one": ratio_of(list(zip(took["two"], took["one"], strict=True)))}
    if "here" in took:
        result |= {"two_over_here": ratio_of(list(zip(took["two"], took["here"], strict=True)))}
    write(result | {"seconds": took, "stores_equal": equal}, given.out, model=given.model)


def _edit(editor: Editor, executor: Executor | None, edits: list[Edit]) -> None:
    editor.edit(edits, executor=executor)


if __name__ == "__main__":
    main()
