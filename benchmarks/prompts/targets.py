"""Targets that must come out exactly: edits of sixteen kinds, each asked in two rewordings that nothing is trained on.

    python -m benchmarks.prompts.targets --out docs/results/prompts/targets.json

The route is given, so that the block alone is measured: each rewording is asked as raw text and in the chat template,
and runs with the edit's block. One forward pass tells what greedy decoding gives: the target, and a stop, if and only
if every target token, the end token included, has the greatest logit after the tokens before it. It also gives the
exact probability that sampling at a temperature draws the target; ``--draws`` draws that often from it.

``--settings before`` trains as the package did before: eight answer positions, no rewordings tried, each token likely
but not the whole, every token looked at in every step. Seconds are the processor's.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meloedit import Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.hooks.blocks import Factors, with_positions
from meloedit.training import replay
from meloedit.training.trainer import Trained, Trainer

from ..shared.edits import training_examples
from ..shared.made_targets import Asked, made_targets
from ..shared.options import option_parser, share, write

PART = 16
"""Edits that train at once."""
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "before": {"max_answer_positions": 8, "min_answer_probability": 0.0, "rewordings": 0},
}
TEMPERATURE = 0.7


class Outcome:
    """What a row gives with its edit's block.

    Attributes:
        exact: whether greedy decoding gives the target and stops.
        sampled: the probability that sampling draws it and stops.
        least: the least probability of a target token, at temperature 1.
    """

    def __init__(self, logits: Tensor, targets: Tensor) -> None:
        def chosen(scaled: Tensor) -> Tensor:
            return scaled.log_softmax(1).gather(1, targets[:, None])[:, 0]

        self.exact = bool((logits.argmax(1) == targets).all())
        self.sampled = float(chosen(logits / TEMPERATURE).sum().exp())
        self.least = float(chosen(logits).min().exp())


def from_file(path: str, count: int) -> list[Asked]:
    """Return the first edits of an evaluation file that have two rephrasings."""
    items = [item for item in load_task(task_of(path), [path], 0, "routing").items if len(item.rephrases) > 1]
    return [Asked(Path(path).name, item.edit, (item.rephrases[0], item.rephrases[1])) for item in items[:count]]


def rewording_rows(editor: Editor, asked: Asked) -> list[Example]:
    """Return the rewordings of an edit in every form, with its target."""
    backbone = editor.backbone
    forms = [form for wording in asked.rewordings for form in backbone.forms(wording)]
    return [Example.of(form, backbone.encode_target(asked.edit.target, form)) for form in forms]


@torch.no_grad()
def outcomes(editor: Editor, trained: Sequence[Trained], rows: Sequence[Sequence[Example]]) -> list[list[Outcome]]:
    """Return what each row of each edit gives with the edit's block."""
    found: dict[int, Outcome] = {}
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, result in enumerate(trained):
        factors = next(iter(result.block.values()))
        shapes[len(factors.a), factors.p.shape[1]].append(i)
    for members in shapes.values():
        blocks = [with_positions(trained[i].block, 10**6) for i in members]
        given = [(str(i), list(rows[i])) for i in members]
        for micro in replay.micro_batches(editor.engine.router, given, editor.config):
            block = {
                name: Factors(*(torch.stack([blocks[i][name][k].float() for i in micro.edits]) for k in range(3)))
                for name in blocks[0]
            }
            batch = micro.replay.batch
            logits = micro.replay.logits(block).float()
            for row, example in enumerate(batch.rows):
                at = batch.flat_rows == row
                found[id(example)] = Outcome(logits[at], batch.flat_targets[at])
    return [[found[id(row)] for row in of_edit] for of_edit in rows]


def figures(found: Sequence[Sequence[Outcome]], draws: int) -> dict[str, Any]:
    """Return the shares of rows that are answered right, greedily and sampled; ``draws`` samples of each."""
    rng, flat = random.Random(0), [one for of_edit in found for one in of_edit]
    drawn = [rng.random() < one.sampled for one in flat for _ in range(draws)]
    return {
        "greedy": share([one.exact for one in flat]),
        f"sampled, {draws} draws": share(drawn),
        "sampled, expected": round(sum(one.sampled for one in flat) / len(flat), 4),
    }


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", metavar="FILE", help="ask the edits of a data set, and its rephrasings, instead")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--settings", choices=SETTINGS, default="default")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.settings == "before":
        replay.CERTAIN = 2.0  # no token is: all are looked at
    editor = Editor.create(given.model, config=MeloConfig(judge="none", **SETTINGS[given.settings]))
    trainer = Trainer(editor.engine.router, editor.config)
    asked = from_file(given.edits, given.count) if given.edits else made_targets(given.count, given.seed)
    trained: list[Trained] = []
    own: list[list[Outcome]] = []
    reworded: list[list[Outcome]] = []
    seconds = 0.0
    for start in range(0, len(asked), PART):
        part = asked[start : start + PART]
        rows = training_examples(editor, [one.edit for one in part])
        began = time.process_time()
        results = trainer.train(rows)
        seconds += time.process_time() - began
        trained += results
        own += outcomes(editor, results, [[row for row in of_edit if not row.tried] for _, of_edit in rows])
        reworded += outcomes(editor, results, [rewording_rows(editor, one) for one in part])
        write(summary(asked, trained, own, reworded, seconds, given.draws), given.out, settings=given.settings)


def summary(
    asked: Sequence[Asked],
    trained: Sequence[Trained],
    own: Sequence[list[Outcome]],
    reworded: Sequence[list[Outcome]],
    seconds: float,
    draws: int,
) -> dict[str, Any]:
    """Return the figures of the edits so far, over all and for each kind of target."""
    count = len(trained)
    kinds: dict[str, list[list[Outcome]]] = defaultdict(list)
    for one, found in zip(asked, reworded, strict=False):
        kinds[one.kind].append(found)
    forms = {"raw": [found[::2] for found in reworded], "chat": [found[1::2] for found in reworded]}
    sizes = [sum(f.numel() * 2 for factors in result.block.values() for f in factors) for result in trained]
    wrong = [
        [one.kind, one.edit.target, one.rewordings[k // 2], ("raw", "chat")[k % 2], round(row.sampled, 3), row.exact]
        for one, found in zip(asked, reworded, strict=False)
        for k, row in enumerate(found)
        if row.sampled < 0.5
    ]
    return {
        "task": "targets that must come out exactly, the route given",
        "edits": count,
        "held": share([result.holds for result in trained]),
        "own prompts": figures(own, draws),
        "rewordings": figures(reworded, draws),
        "by form": {form: figures(found, draws) for form, found in forms.items()},
        "by kind": {kind: figures(found, draws) for kind, found in kinds.items()},
        "least confidence": round(min(result.confidence for result in trained), 4),
        "steps": round(sum(result.steps for result in trained) / count, 1),
        "ranks": dict(Counter(str(result.rank) for result in trained)),
        "bytes of a block": round(sum(sizes) / count),
        "seconds": round(seconds, 1),
        "wrong": wrong,
    }


if __name__ == "__main__":
    main()
