"""What the cached prefix saves, and whether edits trained together equal edits trained one after another.

    python -m benchmarks.speed.training --edits zsre_distinct.jsonl.gz --count 256

Both sides run the same code on the same rows and compute logits at target positions only; the rival runs the whole
model at every step. The hold check is an argmax over logits that both sides have anyway; its time is in both.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from common import provenance, read_jsonl, write

from meloedit import Edit, Editor
from meloedit.engine.planning import plan
from meloedit.training.trainer import Trained, Trainer

Items = list[tuple[str, list[Any]]]


def timed(trainer: Trainer, items: Items, together: int) -> tuple[float, list[Trained]]:
    """Train in parts of ``together`` edits; return processor seconds (the machine may be shared) and results."""
    began = time.process_time()
    results = [r for start in range(0, len(items), together) for r in trainer.train(items[start : start + together])]
    return time.process_time() - began, results


def largest_difference(one: list[Trained], other: list[Trained]) -> dict[str, Any]:
    """Return by how much blocks differ, next to their own size, and in how many they are equal."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--alone", type=int, default=32, help="edits trained at once and then one after another")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--out")
    args = parser.parse_args()
    rows = read_jsonl(args.edits, args.count)
    editor = Editor.from_pretrained(args.model)
    items: Items = [
        (p.edit.id, p.rows) for p in plan(editor._live, [Edit(r["prompt"], r["target"]) for r in rows], False)
    ]
    config = editor.config
    trainers = {cached: Trainer(editor.router, replace(config, prefix_cache=cached)) for cached in (True, False)}
    trainers[True].train(items[:8])  # warm up
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    results: dict[bool, list[Trained]] = {True: [], False: []}
    for start in range(0, len(items), config.train_batch_size):  # interleaved, so that a busy machine hurts both
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
            "held_cached": sum(r.held for r in results[True]),
            "held_whole_model": sum(r.held for r in results[False]),
            "loss_difference_first_step": max(
                abs(a.losses[0] - b.losses[0]) for a, b in zip(results[True], results[False], strict=True)
            ),
            "loss_difference_median": float(torch.tensor(losses).median()),
            "loss_difference_largest": max(losses),
            "together_against_alone": largest_difference(together, alone),
            "two_of_one_length_against_alone": largest_difference(
                timed(trainers[True], pair, 2)[1], timed(trainers[True], pair, 1)[1]
            ),
            "provenance": provenance(),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
