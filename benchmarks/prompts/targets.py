"""Targets that must come out exactly: edits of sixteen kinds, each asked in rewordings that nothing is trained on.

    python -m benchmarks.prompts.targets --out docs/results/prompts/targets.json --parts targets.parts.jsonl
    python -m benchmarks.prompts.targets --written benchmarks/prompts/numbers.jsonl --out numbers.json

The route is given, so that the block alone is measured: each rewording is asked as raw text and in the chat template,
and runs with the edit's block. One forward pass tells what greedy decoding gives: the target, and a stop, if and only
if every target token, the end token included, has the greatest logit after the tokens before it. It also gives the
exact probability that sampling at a temperature draws the target; ``--draws`` draws that often from it.

``--parts`` keeps what was measured so far; the same command goes on from there. ``--settings before`` trains as the
package did before it had positions for long targets: eight answer positions, no rewordings tried, each token likely but
not the whole, every token looked at in every step. Seconds are the processor's.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.hooks.blocks import Factors
from meloedit.training import replay
from meloedit.training.trainer import Trained, Trainer

from ..shared.edits import read_jsonl, training_examples
from ..shared.made_targets import Asked, made_targets
from ..shared.options import option_parser, share, write

PART = 16
"""Edits that train at once."""
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "before": {"max_answer_positions": 8, "min_answer_probability": 0.0, "rewordings": 0},
}
TEMPERATURE = 0.7


class Outcome(NamedTuple):
    """What a row gives with its edit's block.

    Attributes:
        exact: whether greedy decoding gives the target and stops.
        sampled: the probability that sampling draws it and stops.
        least: the least probability of a target token, at temperature 1.
    """

    exact: bool
    sampled: float
    least: float

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> Outcome:
        """Return what the logits (T, V) at a row's target tokens (T,) say."""

        def chosen(scaled: Tensor) -> Tensor:
            return scaled.log_softmax(1).gather(1, targets[:, None])[:, 0]

        exact = bool((logits.argmax(1) == targets).all())
        return cls(exact, float(chosen(logits / TEMPERATURE).sum().exp()), float(chosen(logits).min().exp()))


class Measured(NamedTuple):
    """What became of an edit: whether it holds, what it cost, and the outcomes of its own rows and its rewordings'."""

    holds: bool
    confidence: float
    steps: int
    rank: int
    nbytes: int
    own: list[Outcome]
    reworded: list[Outcome]


def from_file(path: str, count: int) -> list[Asked]:
    """Return the first edits of an evaluation file that have two rephrasings."""
    items = [item for item in load_task(task_of(path), [path], 0, "routing").items if len(item.rephrases) > 1]
    return [Asked(Path(path).name, item.edit, (item.rephrases[0], item.rephrases[1])) for item in items[:count]]


def written(path: str, count: int) -> list[Asked]:
    """Return the first edits of a file of prompts, targets and rewordings that were written by hand."""
    rows = read_jsonl(path, count)
    return [
        Asked(Path(path).name, Edit(row["prompt"], row["target"], id=str(i)), tuple(row["rewordings"]))
        for i, row in enumerate(rows)
    ]


def rewording_rows(editor: Editor, asked: Asked) -> list[Example]:
    """Return the rewordings of an edit in every form, with its target."""
    forms = [form for wording in asked.rewordings for form in editor.backbone.forms(wording)]
    return [editor.backbone.row(asked.edit.target, form) for form in forms]


@torch.no_grad()
def outcomes(editor: Editor, trained: Sequence[Trained], rows: Sequence[Sequence[Example]]) -> list[list[Outcome]]:
    """Return what each row of each edit gives with the edit's block."""
    found: dict[int, Outcome] = {}
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, result in enumerate(trained):
        factors = next(iter(result.block.values()))
        shapes[len(factors.a), factors.p.shape[1]].append(i)
    for members in shapes.values():
        blocks = [trained[i].block for i in members]
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
                found[id(example)] = Outcome.of(logits[at], batch.flat_targets[at])
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


def measure(editor: Editor, trainer: Trainer, part: Sequence[Asked]) -> tuple[list[Measured], float]:
    """Train some edits and ask them; return what became of each, and the seconds of training."""
    rows = training_examples(editor, [one.edit for one in part])
    began = time.process_time()
    trained = trainer.train(rows)
    seconds = time.process_time() - began
    own = outcomes(editor, trained, [[row for row in of_edit if not row.tried] for _, of_edit in rows])
    reworded = outcomes(editor, trained, [rewording_rows(editor, one) for one in part])
    sizes = [sum(f.numel() * 2 for factors in one.block.values() for f in factors) for one in trained]
    facts = [(one.holds, round(one.confidence, 4), one.steps, one.rank) for one in trained]
    return [Measured(*fact, *rest) for fact, *rest in zip(facts, sizes, own, reworded, strict=True)], seconds


def kept_parts(path: Path | None) -> list[tuple[list[Measured], float]]:
    """Return the parts that a file has."""
    if path is None or not path.exists():
        return []
    parts = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        (
            [Measured(*one[:5], *([Outcome(*outcome) for outcome in found] for found in one[5:])) for one in edits],
            seconds,
        )
        for edits, seconds in parts
    ]


def asked_edits(given: Any) -> list[Asked]:
    """Return the edits that the options ask for."""
    if given.written:
        return written(given.written, given.count)
    return from_file(given.edits, given.count) if given.edits else made_targets(given.count, given.seed)


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", metavar="FILE", help="ask the edits of a data set, and its rephrasings, instead")
    parser.add_argument("--written", metavar="FILE", help="ask edits and rewordings that were written by hand, instead")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--settings", choices=SETTINGS, default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as JSON")
    parser.add_argument("--parts", metavar="FILE", help="file that keeps what was measured so far")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.settings == "before":
        replay.CERTAIN = 2.0  # no token is: all are looked at
    settings = SETTINGS[given.settings] | {
        name: json.loads(value) for name, value in (text.split("=", 1) for text in given.set)
    }
    asked, file = asked_edits(given), Path(given.parts) if given.parts else None
    parts = kept_parts(file)
    editor = Editor.create(given.model, config=MeloConfig(judge="none", **settings))
    trainer = Trainer(editor.engine.router, editor.config)
    for start in range(len(parts) * PART, len(asked), PART):
        parts.append(measure(editor, trainer, asked[start : start + PART]))
        if file:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(parts[-1]) + "\n")
        write(summary(asked, parts, given.draws), given.out, settings=given.settings, **settings)
    editor.unload()


def summary(asked: Sequence[Asked], parts: Sequence[tuple[list[Measured], float]], draws: int) -> dict[str, Any]:
    """Return the figures of the edits so far, over all and for each kind of target."""
    measured = [one for edits, _ in parts for one in edits]
    count = len(measured)
    own, reworded = [one.own for one in measured], [one.reworded for one in measured]
    kinds: dict[str, list[list[Outcome]]] = defaultdict(list)
    for one, found in zip(asked, reworded, strict=False):
        kinds[one.kind].append(found)
    forms = {"raw": [found[::2] for found in reworded], "chat": [found[1::2] for found in reworded]}
    wrong = [
        [one.kind, one.edit.target, one.rewordings[k // 2], ("raw", "chat")[k % 2], round(row.sampled, 3), row.exact]
        for one, found in zip(asked, reworded, strict=False)
        for k, row in enumerate(found)
        if row.sampled < 0.5 or not row.exact
    ]
    return {
        "task": "targets that must come out exactly, the route given",
        "edits": count,
        "held": share([one.holds for one in measured]),
        "own prompts": figures(own, draws),
        "rewordings": figures(reworded, draws),
        "by form": {form: figures(found, draws) for form, found in forms.items()},
        "by kind": {kind: figures(found, draws) for kind, found in kinds.items()},
        "least confidence": min(one.confidence for one in measured),
        "steps": round(sum(one.steps for one in measured) / count, 1),
        "ranks": dict(Counter(str(one.rank) for one in measured)),
        "bytes of a block": round(sum(one.nbytes for one in measured) / count),
        "seconds": round(sum(seconds for _, seconds in parts), 1),
        "wrong": wrong,
    }


if __name__ == "__main__":
    main()
