"""How fast edits are made: against one at a time without the cached prefix, against GRACE, and against the arithmetic.

    python -m benchmarks.speed.editing --edits zsre_distinct.jsonl.gz --count 256

All sides edit in turns in one process, each its own copy of the model: a part of the edits by this engine as it comes
(training, keys, the commit), then the first few of the part by the same engine one at a time without the cached prefix,
and by GRACE at its published 100 iterations, without the prefix cache that this package adds to it. What is compared
are seconds per edit. The floor is the arithmetic of training a part (the frozen prefix once, then all steps; matmuls
counted by torch) at the rate at which this machine multiplies large matrices at that time.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import provenance, read_jsonl, share, write
from models import add_options, described, load
from paired import median_interval, seconds
from torch.utils.flop_counter import FlopCounterMode

from meloedit import Edit, Editor, MeloConfig
from meloedit.engine.planning import plan
from meloedit.methods import method_class
from meloedit.training.trainer import Trainer

SIZE = 2048
"""Rows of the square matrices whose product measures the machine."""


def matmul_rate(model: Any) -> float:
    """Return floating-point operations per second of one large product where the model is, the best of three."""
    one, other = (torch.randn(SIZE, SIZE, device=model.device, dtype=model.dtype) for _ in range(2))
    return 2 * SIZE**3 / min(seconds(lambda: one @ other) for _ in range(3))


def arithmetic(trainer: Trainer, items: list[Any]) -> int:
    """Return the floating-point operations of the matmuls that training some edits takes."""
    with FlopCounterMode(display=False) as counter:
        trainer.train(items)
    return counter.get_total_flops()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--part", type=int, default=64, help="edits of one round")
    parser.add_argument("--rivals", type=int, default=4, help="edits that a rival makes in a round")
    add_options(parser)
    parser.add_argument("--out")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = read_jsonl(given.edits, given.count)
    edits = [Edit(row["prompt"], row["target"], id=str(i)) for i, row in enumerate(rows)]
    ours = Editor(*load(given))
    alone = Editor(*load(given), config=MeloConfig(train_batch_size=1, prefix_cache=False))
    grace = method_class("grace")(*load(given), {"eps": 10, "prefix_cache": False})
    for editor in (ours, alone):
        editor.prepare()
    trainer = Trainer(ours.router, ours.config)
    spare = [Edit(f"{edit.prompt} (a)", edit.target, id=f"spare-{edit.id}") for edit in edits[:2]]
    ours.edit(spare), alone.edit(spare[:1])  # warm up
    ratios: dict[str, list[float]] = {"alone": [], "grace": [], "floor": []}
    took: dict[str, float] = dict.fromkeys(("ours", "alone", "grace"), 0.0)
    held: list[bool] = []
    few: list[Edit] = []
    for start in range(0, len(edits), given.part):
        part = edits[start : start + given.part]
        some = part[: given.rivals]
        items = [(planned.edit.id, planned.rows) for planned in plan(ours._live, part, False)]
        rate = matmul_rate(ours.model)
        training = seconds(lambda items=items: trainer.train(items))  # type: ignore[misc]
        ratios["floor"].append(training * (rate + matmul_rate(ours.model)) / 2 / arithmetic(trainer, items))
        own = seconds(lambda part=part: held.extend(r.held for r in ours.edit(part))) / len(part)  # type: ignore[misc]
        one = seconds(lambda some=some: alone.edit(some)) / len(some)  # type: ignore[misc]
        other = seconds(lambda some=some: grace.edit(some)) / len(some)  # type: ignore[misc]
        took = {"ours": took["ours"] + own, "alone": took["alone"] + one, "grace": took["grace"] + other}
        ratios["alone"].append(one / own)
        ratios["grace"].append(other / own)
        few += some
        print({name: round(values[-1], 2) for name, values in ratios.items()}, flush=True)
    answers = [said.text.strip() for said in grace.answer([edit.prompt for edit in few])]
    rounds = len(ratios["alone"])
    result: dict[str, Any] = {"task": "editing against rivals and against its own arithmetic", "edits": len(edits)}
    for name, values in ratios.items():
        ratio, ci = median_interval(values)
        result[name] = {"ratio": round(ratio, 2), "ci": [round(end, 2) for end in ci], "rounds": rounds}
    result["edits_per_minute"] = {name: round(60 * rounds / total, 1) for name, total in took.items()}
    result["held"] = share(held)
    result["grace_right"] = share([text == edit.target for text, edit in zip(answers, few, strict=True)])
    write(result | {"provenance": provenance() | described(given)}, given.out)


if __name__ == "__main__":
    main()
