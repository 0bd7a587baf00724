"""How fast editing is: against one edit at a time without the cached prefix, against GRACE, and its arithmetic.

    python -m benchmarks.speed.editing --edits zsre_distinct.jsonl.gz --count 256

The sides take turns in one process, each with a separate copy of the model. This engine makes a part of the edits with
its default settings (training, keys, the commit). Then the same engine makes the first few edits of the part one at a
time without the cached prefix, and so does GRACE, with its published 100 iterations and without the prefix cache that
this package adds to it. The figures compare seconds per edit. The floor is the time that the arithmetic of training a
part would take (the frozen prefix once, then all steps; matmuls counted by torch) at the rate at which this machine
multiplies large matrices at that moment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from meloedit import Edit, Editor, MeloConfig
from meloedit.methods import method_class
from meloedit.training.trainer import Trainer

from ..shared.edits import numbered_edits, training_examples
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, share, write
from ..shared.timing import median_interval, seconds

SIZE = 2048
"""Rows of the square matrices whose product measures the machine."""


def matmul_rate(model: Any) -> float:
    """Return floating-point operations per second of one large product on the model's device, the best of three."""
    one, other = (torch.randn(SIZE, SIZE, device=model.device, dtype=model.dtype) for _ in range(2))
    return 2 * SIZE**3 / min(seconds(lambda: one @ other) for _ in range(3))


def arithmetic(trainer: Trainer, items: list[Any]) -> int:
    """Return the floating-point operations of the matmuls in training edits."""
    with FlopCounterMode(display=False) as counter:
        trainer.train(items)
    return counter.get_total_flops()


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--edits")
    parser.add_argument("--count", type=positive, default=256)
    parser.add_argument("--part", type=positive, default=64, help="edits of one round")
    parser.add_argument("--rivals", type=positive, default=4, help="edits that a rival makes in a round")
    add_options(parser)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    edits = numbered_edits(given.edits, given.count)
    ours = Editor(*load(given))
    alone = Editor(*load(given), config=MeloConfig(train_batch_size=1, prefix_cache=False))
    grace = method_class("grace")(*load(given), {"eps": 10, "prefix_cache": False})
    for editor in (ours, alone):
        editor.prepare()
    trainer = Trainer(ours.engine.router, ours.config)
    spare = [Edit(f"{edit.prompt} (a)", edit.target, id=f"spare-{edit.id}") for edit in edits[:2]]
    ours.edit(spare), alone.edit(spare[:1])  # warm up
    ratios: dict[str, list[float]] = {"alone": [], "grace": [], "floor": []}
    took: dict[str, float] = dict.fromkeys(("ours", "alone", "grace"), 0.0)
    holds: list[bool] = []
    by_rivals: list[Edit] = []
    for start in range(0, len(edits), given.part):
        part = edits[start : start + given.part]
        few = part[: given.rivals]
        items = training_examples(ours, part)
        rate = matmul_rate(ours.model)
        training = seconds(lambda items=items: trainer.train(items))  # type: ignore[misc]
        ratios["floor"].append(training * (rate + matmul_rate(ours.model)) / 2 / arithmetic(trainer, items))
        batched = seconds(lambda part=part: holds.extend(r.holds for r in ours.edit(part))) / len(part)  # type: ignore[misc]
        single = seconds(lambda few=few: alone.edit(few)) / len(few)  # type: ignore[misc]
        rival = seconds(lambda few=few: grace.edit(few)) / len(few)  # type: ignore[misc]
        took = {"ours": took["ours"] + batched, "alone": took["alone"] + single, "grace": took["grace"] + rival}
        ratios["alone"].append(single / batched)
        ratios["grace"].append(rival / batched)
        by_rivals += few
        print({name: round(values[-1], 2) for name, values in ratios.items()}, flush=True)
    answers = [answer.text.strip() for answer in grace.answer([edit.prompt for edit in by_rivals])]
    rounds = len(ratios["alone"])
    result: dict[str, Any] = {"task": "editing against rivals and against its own arithmetic", "edits": len(edits)}
    for name, values in ratios.items():
        ratio, ci = median_interval(values)
        result[name] = {"ratio": round(ratio, 2), "ci": [round(end, 2) for end in ci], "rounds": rounds}
    result["edits_per_minute"] = {name: round(60 * rounds / total, 1) for name, total in took.items()}
    result["held"] = share(holds)
    result["grace_right"] = share([text == edit.target for text, edit in zip(answers, by_rivals, strict=True)])
    write(result, given.out, **described(given))


if __name__ == "__main__":
    main()
