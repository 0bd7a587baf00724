"""How small an edit's block can be, and still answer: rank, modules, answer positions, a fixed A, int8.

    python -m benchmarks.quality.blocks --edits counterfact-train.jsonl.gz --edits zsre_mend_train_1000.jsonl.gz

The route is given, so that the block alone is measured. It is asked an unseen rephrasing, raw and behind the chat
template. One forward pass is enough: greedy decoding gives the target and stops there if and only if every target
token, the end token included, has the greatest logit after the tokens before it. All shapes train the same edits in
one process and take turns, a part of the edits each. Seconds are the processor's; a ratio compares a shape with the
first one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from meloedit import Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.evaluation.tasks.task import Item
from meloedit.hooks.blocks import Factors, Site
from meloedit.training.optimizer import learning_rates
from meloedit.training.replay import micro_batches
from meloedit.training.trainer import Trained, Trainer, seeded

from ..shared.options import option_parser, positive, share, write

PART = 32
"""Edits that a shape trains before it is the next shape's turn."""
FORMS = ("raw", "chat")


def attention(*layers: int) -> tuple[str, ...]:
    """Return the names of the attention output modules of these layers."""
    return tuple(f"model.layers.{layer}.self_attn.o_proj" for layer in layers)


SMALL: dict[str, Any] = {"rank": 1, "position_lr_scale": 3.0}
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "rank 1": {"rank": 1},
    "rank 1, positions x3": SMALL,
    "rank 1, two layers": SMALL | {"layers": 2},
    "rank 1, one layer": SMALL | {"layers": 1},
    "rank 1, attention of three layers": SMALL | {"modules": attention(27, 28, 29)},
    "rank 1, attention of three layers, 0.995": SMALL
    | {"modules": attention(27, 28, 29), "min_target_probability": 0.995},
    "rank 1, attention of two layers": SMALL | {"modules": attention(28, 29)},
    "rank 1, attention of two layers, 0.995": SMALL | {"modules": attention(28, 29), "min_target_probability": 0.995},
    "rank 2, fixed A": {"fixed": True, "position_lr_scale": 3.0},
    "rank 4, fixed A": {"fixed": True, "position_lr_scale": 3.0, "rank": 4},
}


def fixed_rates(sites: Sequence[Site]) -> dict[str, float]:
    """Return the learning rate of each factor if A is the same for all edits: B and P alone learn."""
    return learning_rates(sites) | {f"{site.name}.A": 0.0 for site in sites}


@dataclass
class Shape:
    """One kind of block, and the figures of its blocks so far.

    Attributes:
        name: as in ``SHAPES``.
        editor: an editor with the shape's settings.
        fixed: whether A is the same for all edits and not trained.
        seconds: processor seconds of training.
        trained: the blocks.
        right: per form, with and without rounding to int8, which rephrasings are answered right.
        int8_held: which edits still hold after rounding to int8.
    """

    name: str
    editor: Editor
    fixed: bool
    seconds: float = 0.0
    trained: list[Trained] = field(default_factory=list)
    right: dict[str, list[bool]] = field(default_factory=lambda: {f"{w}{f}": [] for w in ("", "int8 ") for f in FORMS})
    int8_held: list[bool] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, model: str, settings: dict[str, Any]) -> Shape:
        """Load a separate copy of the model for a shape."""
        config = MeloConfig(**{key: value for key, value in settings.items() if key != "fixed"})
        return cls(name, Editor.create(model, config=config), "fixed" in settings)

    @property
    def numbers(self) -> int:
        """How many numbers a block of the configured rank has."""
        positions, sites = self.editor.config.answer_positions or 0, self.editor.engine.router.bank.sites
        width = sum((0 if self.fixed else site.inputs) + positions + site.outputs for site in sites)
        return width * self.editor.config.rank

    def examples(self, prompt: Any, target: str) -> list[Example]:
        """Return a prompt with its target in every form."""
        backbone = self.editor.backbone
        return [backbone.row(target, form) for form in backbone.forms(prompt)]

    def train(self, items: Sequence[Item]) -> None:
        """Train a block for each edit, and ask it the edit's first rephrasing."""
        trainer = Trainer(self.editor.engine.router, self.editor.config)
        given = [(item.edit.id, self.examples(item.edit.prompt, item.edit.target)) for item in items]
        began = time.process_time()
        rates = mock.patch("meloedit.training.optimizer.learning_rates", fixed_rates) if self.fixed else nullcontext()
        seeds = mock.patch("meloedit.training.trainer.seeded", lambda seed, rank, _: seeded(seed, rank, "all"))
        with rates, seeds if self.fixed else nullcontext():
            trained = trainer.train(given)
        self.seconds += time.process_time() - began
        self.trained += trained
        asked = [self.examples(item.rephrases[0], item.edit.target) for item in items]
        for word, coarse in (("", False), ("int8 ", True)):
            for form, hits in zip(FORMS, self.answered(trained, asked, coarse), strict=True):
                self.right[word + form] += hits
        by_form = self.answered(trained, [rows for _, rows in given], True)
        self.int8_held += [all(hits) for hits in zip(*by_form, strict=True)]

    @torch.no_grad()
    def answered(self, trained: Sequence[Trained], rows: Sequence[list[Example]], coarse: bool) -> list[list[bool]]:
        """Return for each form which edits' rows their blocks answer right; ``coarse`` rounds the blocks to int8."""
        rank = max(result.rank for result in trained)
        tables = {
            site.name: Factors(
                *(
                    torch.stack(factors)
                    for factors in zip(*(padded(result, site.name, rank, coarse) for result in trained), strict=True)
                )
            )
            for site in self.editor.engine.router.bank.sites
        }
        hit: dict[tuple[int, int], bool] = {}
        numbers = {id(row): (i, k) for i, of_edit in enumerate(rows) for k, row in enumerate(of_edit)}
        for micro in micro_batches(
            self.editor.engine.router, [(str(i), of_edit) for i, of_edit in enumerate(rows)], self.editor.config
        ):
            batch: Any = micro.replay.batch
            logits = micro.replay.logits(
                {name: Factors(*(factor[micro.edits] for factor in factors)) for name, factors in tables.items()}
            )
            misses = torch.zeros(len(batch.rows))
            misses.index_add_(0, batch.flat_rows, (logits.argmax(1) != batch.flat_targets).float())
            hit |= {numbers[id(row)]: count == 0 for row, count in zip(batch.rows, misses.tolist(), strict=True)}
        return [[hit[i, k] for i in range(len(rows))] for k in range(len(FORMS))]

    def figures(self, first: Shape) -> dict[str, Any]:
        """Return the shape's figures, its time also as a multiple of the first shape's."""
        ranks = sorted({result.rank for result in self.trained})
        return {
            "numbers": self.numbers,
            "held": share([result.holds for result in self.trained]),
            **{f"rephrasings {form}": share(hits) for form, hits in self.right.items()},
            "int8 held": share(self.int8_held),
            "steps": round(sum(result.steps for result in self.trained) / len(self.trained), 1),
            "ranks": {str(rank): sum(result.rank == rank for result in self.trained) for rank in ranks},
            "seconds": round(self.seconds, 1),
            "seconds_ratio": round(self.seconds / first.seconds, 2),
        }


def padded(result: Trained, name: str, rank: int, coarse: bool) -> Factors:
    """Return a block's factors at a module, widened to ``rank`` by zeros; ``coarse`` rounds them to int8."""
    a, b, p = (factor.float() for factor in result.block[name])
    if coarse:  # one scale for each of the block's directions, the same for A and P
        a, p = int8(torch.cat([a, p], 1), 1).split([a.shape[1], p.shape[1]], 1)
        b = int8(b, 0)
    pad, more = torch.nn.functional.pad, rank - len(a)
    return Factors(pad(a, (0, 0, 0, more)), pad(b, (0, more)), pad(p, (0, 0, 0, more)))


def int8(factor: Tensor, along: int) -> Tensor:
    """Return a factor rounded to eight bits, with one scale for each direction."""
    scale = (factor.abs().amax(along, keepdim=True) / 127).clamp(min=1e-12)
    return (factor / scale).round() * scale


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", action="append", required=True, metavar="FILE")
    parser.add_argument("--count", type=positive, default=160, help="edits of each file")
    parser.add_argument("--only", help="names of shapes, separated by ;")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=positive, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "blocks of several shapes, the route given", "count": given.count}
    names = given.only.split(";") if given.only else list(SHAPES)
    for path in given.edits:
        task = load_task(task_of(path), [path], 0, "routing")
        items = [item for item in task.items if item.rephrases][: given.count]
        shapes = [Shape.of(name, given.model, SHAPES[name]) for name in names]
        for start in range(0, len(items), PART):
            for shape in shapes:
                shape.train(items[start : start + PART])
        result[task.files[0]["name"]] = {shape.name: shape.figures(shapes[0]) for shape in shapes}
        print(result[task.files[0]["name"]], flush=True)
        write(result, given.out)


if __name__ == "__main__":
    main()
