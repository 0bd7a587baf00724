"""The time that the cached prefix saves, and whether edits trained in one batch equal edits trained one by one.

    python -m benchmarks.speed.training --edits zsre_distinct.jsonl.gz --count 256

Both sides run the same code on the same rows and compute logits at target positions only; the rival runs the whole
model at every step. Both include the check whether an edit holds, an argmax over logits that they have anyway.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from meloedit import Edit, Editor
from meloedit.training.trainer import Trained, Trainer

from ..shared.edits import read_jsonl, training_examples
from ..shared.options import option_parser, positive, write

Items = list[tuple[str, list[Any]]]


def timed(trainer: Trainer, items: Items, size: int) -> tuple[float, list[Trained]]:
    """Train ``size`` edits at a time; return processor seconds (the machine may be shared) and results."""
    began = time.process_time()
    results = [r for start in range(0, len(items), size) for r in trainer.train(items[start : start + size])]
    return time.process_time() - began, results


def largest_difference(one: list[Trained], other: list[Trained]) -> dict[str, Any]:
    """Return the largest difference of blocks, their largest entry, and how many blocks are equal."""
    gaps, sizes, equal = [], [], 0
    for a, b in zip(one, other, strict=True):
        pairs = [(x.float(), y.float()) for name in a.block for x, y in zip(a.block[name], b.block[name], strict=True)]
        if any(x.shape != y.shape for x, y in pairs):
            continue
        gaps.append(max(float((x - y).abs().max()) for x, y in pairs))
        sizes.append(max(float(x.abs().max()) for x, _ in pairs))
        equal += gaps[-1] == 0
    return {"largest": max(gaps), "largest_entry": max(sizes), "equal_blocks": equal, "blocks": len(one)}


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--edits")
    parser.add_argument("--count", type=positive, default=256)
    parser.add_argument("--alone", type=positive, default=32, help="edits trained in one batch and then one by one")
    parser.add_argument("--model", default="smollm2")
    args = parser.parse_args()
    rows = read_jsonl(args.edits, args.count)
    editor = Editor.create(args.model)
    items = training_examples(editor, [Edit(row["prompt"], row["target"]) for row in rows])
    config = editor.config
    trainers = {cached: Trainer(editor.engine.router, replace(config, prefix_cache=cached)) for cached in (True, False)}
    trainers[True].train(items[:8])  # warm up
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    results: dict[bool, list[Trained]] = {True: [], False: []}
    for start in range(0, len(items), config.train_batch_size):  # in turns, so that a busy machine slows both
        for cached in (True, False):
            took, trained = timed(
                trainers[cached], items[start : start + config.train_batch_size], config.train_batch_size
            )
            seconds[cached] += took
            results[cached] += trained
    losses = [
        abs(a - b)
        for one, other in zip(results[True], results[False], strict=True)
        for a, b in zip(one.losses, other.losses, strict=False)
    ]
    _, together = timed(trainers[True], items[: args.alone], args.alone)
    _, alone = timed(trainers[True], items[: args.alone], 1)
    same_length = [item for item in items if len(item[1][0].prompt) == len(items[0][1][0].prompt)]
    same_length = [item for item in same_length if len(item[1][0].target) == len(items[0][1][0].target)]
    pair = [(name, [row]) for name, (row, *_) in same_length[:2]]
    write(
        {
            "task": "training with the prefix cached and not; together and alone",
            "edits": len(items),
            "reach": config.reach,
            "cpu_seconds_cached": round(seconds[True], 1),
            "cpu_seconds_whole_model": round(seconds[False], 1),
            "ratio": round(seconds[False] / seconds[True], 2),
            "held_cached": sum(r.holds for r in results[True]),
            "held_whole_model": sum(r.holds for r in results[False]),
            "loss_difference_first_step": max(
                abs(a.losses[0] - b.losses[0]) for a, b in zip(results[True], results[False], strict=True)
            ),
            "loss_difference_median": float(torch.tensor(losses).median()),
            "loss_difference_largest": max(losses),
            "together_against_alone": largest_difference(together, alone),
            "two_of_one_length_against_alone": largest_difference(
                timed(trainers[True], pair, 2)[1], timed(trainers[True], pair, 1)[1]
            ),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
