"""The trainer of the default mode: one block per edit, many edits at once, over a frozen prefix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import Example
from ..backbones.contexts import frozen
from ..config import MeloConfig
from ..hooks.blocks import Block, Factors, Site
from .optimizer import BlockAdam
from .replay import MicroBatch, micro_batches
from .scores import Scores

if TYPE_CHECKING:
    from ..hooks.router import Router

HoldProgress = Callable[[int], None]
"""Called after every step with the number of edits that hold."""


@dataclass
class Trained:
    """The result of training for one edit.

    Attributes:
        block: the block in float16, as it is stored.
        holds: whether greedy decoding with this very block gives the target and stops, for every row of the edit.
        steps: optimiser steps taken, over all ranks tried.
        rank: rank of the block.
        loss: mean cross-entropy of the target with this block, nats per token.
        losses: the loss before each step at the last rank.
    """

    block: Block
    holds: bool
    steps: int
    rank: int
    loss: float
    losses: list[float] = field(default_factory=list)


class Trainer:
    """Trains one block per edit, all edits of a call together.

    The loss is the sum over edits of the mean over the edit's rows of the mean cross-entropy over target tokens. So
    with an elementwise optimiser (Adam) every block takes the steps it would take alone.

    The forward pass uses the blocks rounded to float16, as they will be stored; the backward pass ignores the rounding.
    So if every target token, the end token included, has the greatest logit in a forward pass, greedy decoding with the
    stored block gives the target and stops. If each of them also has ``min_target_probability``, the edit leaves the
    optimiser. An edit that does not hold after ``config.steps`` is trained again with twice the rank.

    Args:
        router: the model and its hooks.
        config: settings.
    """

    def __init__(self, router: Router, config: MeloConfig) -> None:
        self.router = router
        self.config = config
        self.sites = [
            replace(site, position_rate=site.position_rate * config.position_lr_scale) for site in router.bank.sites
        ]

    def train(
        self, edits: Sequence[tuple[str, Sequence[Example]]], progress: HoldProgress | None = None
    ) -> list[Trained]:
        """Train blocks for edits.

        Args:
            edits: ids and rows.
            progress: called after every step with the number of edits that hold.

        Returns:
            One result per edit, in order; an edit that holds at no rank has ``holds=False``.
        """
        # whatever the caller is in: a notebook's torch.no_grad(), a server's torch.inference_mode()
        with frozen(self.router.model), torch.inference_mode(False), torch.enable_grad():
            return self._train(edits, progress or (lambda holding: None))

    def _train(self, edits: Sequence[tuple[str, Sequence[Example]]], progress: HoldProgress) -> list[Trained]:
        results: dict[int, Trained] = {}
        waiting, rank = list(range(len(edits))), self.config.rank
        largest = min(self.config.max_rank, *(min(site.inputs, site.outputs) for site in self.sites))
        while waiting and rank <= largest:
            before = len(edits) - len(waiting)  # edits that hold already
            trained = self._train_at([edits[i] for i in waiting], rank, before, progress)
            for i, result in zip(waiting, trained, strict=True):
                result.steps += results[i].steps if i in results else 0
                results[i] = result
            waiting = [i for i in waiting if not results[i].holds]
            rank *= 2
        return [results[i] for i in range(len(edits))]

    def _train_at(
        self, edits: Sequence[tuple[str, Sequence[Example]]], rank: int, before: int, progress: HoldProgress
    ) -> list[Trained]:
        """Train a block of one rank for each edit; ``before`` more edits hold already."""
        config = self.config
        batches = micro_batches(self.router, edits, config)
        generators = [seeded(config.seed, rank, name) for name, _ in edits]
        initial = [initial_block(self.sites, rank, generator, config.answer_positions or 0) for generator in generators]
        blocks = BlockAdam(initial, self.sites, config.lr)
        alive = torch.arange(len(edits))  # edits still in the optimiser, in the order of its tables
        done: dict[int, Trained] = {}
        losses: list[list[float]] = [[] for _ in edits]
        for step in range(config.steps + 1):  # the last pass only checks
            scores = _forward(blocks.rounded(), batches, alive)
            per_edit, exact, likely = scores.per_edit(config.min_target_probability or 0.0)
            leaves = (exact & likely) if step < config.steps else torch.ones_like(exact)
            for i, (edit, loss) in enumerate(zip(alive.tolist(), per_edit.tolist(), strict=True)):
                losses[edit].append(loss)
                if leaves[i]:
                    done[edit] = Trained(blocks.stored(i), bool(exact[i]), step, rank, loss, losses[edit])
            progress(before + sum(result.holds for result in done.values()))
            if leaves.all():
                break
            blocks.step(scores.total())
            if leaves.any():
                stay = torch.nonzero(~leaves).flatten()
                alive = alive[stay]
                blocks.keep(stay)
                for batch in batches:
                    batch.keep(alive)
        return [done[i] for i in range(len(edits))]


def _forward(blocks: Block, batches: Sequence[MicroBatch], alive: Tensor) -> Scores:
    """Score all rows, each with the block of its edit; the stacked blocks are those of the edits ``alive``."""
    scores = Scores(len(alive))
    for batch in batches:
        if len(batch.edits):
            number = torch.searchsorted(alive, batch.edits)  # of each row's block in the stack
            per_row = {
                name: Factors(*(factor[number.to(factor.device)] for factor in factors))
                for name, factors in blocks.items()
            }
            scores.add(batch.replay.logits(per_row), batch.replay.batch, number)
    return scores


def seeded(seed: int, rank: int, name: str) -> torch.Generator:
    """Return a generator that depends on these alone."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{rank}/{name}".encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(number % 2**63)


def initial_block(sites: Sequence[Site], rank: int, generator: torch.Generator, positions: int = 0) -> Block:
    """Return a block that adds nothing yet: A Gaussian, B zero, and P zero for a number of answer positions."""
    return {
        site.name: Factors(
            (torch.randn(rank, site.inputs, generator=generator) / site.inputs**0.5).to(site.device),
            torch.zeros(site.outputs, rank, device=site.device),
            torch.zeros(rank, positions, device=site.device),
        )
        for site in sites
    }
