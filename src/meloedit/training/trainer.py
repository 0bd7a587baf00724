"""Training: many blocks at once, one per edit, over a frozen prefix that is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import Batch, EncoderBatch, Example
from ..backbones.contexts import frozen
from ..config import MeloConfig
from ..hooks.blocks import Block, Factors, Site
from ..types import Reach
from .encoder_replay import EncoderReplay
from .optimizer import BlockAdam
from .replay import CachedPrefix, CausalReplay, Replay
from .scores import Scores

if TYPE_CHECKING:
    from ..hooks.router import Router

ROWS = 32
"""Rows run in one batch: enough for full matmul speed, few enough to be of like length."""


@dataclass
class Trained:
    """What training made of one edit.

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


@dataclass
class Group:
    """Rows that are run in one batch, and the edit that each belongs to."""

    replay: Replay
    edit: Tensor

    def keep(self, alive: Tensor) -> None:
        """Drop the rows of edits that are done."""
        picks = torch.nonzero(torch.isin(self.edit, alive)).flatten()
        if len(picks) < len(self.edit):
            self.replay, self.edit = self.replay.select(picks), self.edit[picks]


def group_rows(router: Router, edits: Sequence[tuple[str, Sequence[Example]]], config: MeloConfig) -> list[Group]:
    """Pack the rows of some edits into batches, each with its frozen prefix."""
    rows = [row for _, own in edits for row in own]
    edit = torch.tensor([i for i, (_, own) in enumerate(edits) for _ in own])
    backbone = router.backbone
    return [
        Group(open_replay(router, batch, config.reach, config.prefix_cache), edit[members])
        for members, batch in backbone.pack(rows, ROWS)
    ]


def open_replay(router: Router, batch: Batch, reach: Reach, cached: bool) -> Replay:
    """Return what gives a batch's target logits at every step, with the frozen prefix cached if wanted."""
    if isinstance(batch, EncoderBatch):
        return EncoderReplay.of(router, batch, cached)
    return CausalReplay(router, batch, reach, CachedPrefix.of(router, batch, reach) if cached else None)


class Trainer:
    """Trains one block per edit, all edits of a call together.

    The loss is the sum over edits of the mean over the edit's rows of the mean cross-entropy over target tokens, so
    that with an elementwise optimiser (Adam) every block takes the steps it would take alone. The forward pass uses
    the blocks rounded to float16, as they will be stored (the rounding is passed straight through in the backward
    pass). So a forward pass in which every target token, the end token included, has the greatest logit shows that
    greedy decoding with the stored block gives the target and stops; when it also gives each of them
    ``min_target_probability``, the edit leaves the optimiser.
    """

    def __init__(self, router: Router, config: MeloConfig) -> None:
        self.router = router
        self.config = config
        self.sites = [
            replace(site, position_rate=site.position_rate * config.position_lr_scale) for site in router.bank.sites
        ]

    def train(
        self, edits: Sequence[tuple[str, Sequence[Example]]], tell: Callable[[int], None] | None = None
    ) -> list[Trained]:
        """Train a block for each edit, given as its id and its rows; an edit that does not hold gets a larger rank.

        Args:
            edits: ids and rows.
            tell: told, after every step, how many edits hold.

        Returns:
            One result per edit, in order; those that never held have ``held=False``.
        """
        results: dict[int, Trained] = {}
        waiting, rank = list(range(len(edits))), self.config.rank
        most = min(self.config.max_rank, *(min(site.inputs, site.outputs) for site in self.sites))
        while waiting and rank <= most:
            # whatever the caller is in: a notebook's torch.no_grad(), a server's torch.inference_mode()
            with frozen(self.router.model), torch.inference_mode(False), torch.enable_grad():
                trained = self._train([edits[i] for i in waiting], rank, tell, len(edits) - len(waiting))
            for i, result in zip(waiting, trained, strict=True):
                result.steps += results[i].steps if i in results else 0
                results[i] = result
            waiting = [i for i in waiting if not results[i].holds]
            rank *= 2
        return [results[i] for i in range(len(edits))]

    def _train(
        self,
        edits: Sequence[tuple[str, Sequence[Example]]],
        rank: int,
        tell: Callable[[int], None] | None,
        held_before: int,
    ) -> list[Trained]:
        groups = group_rows(self.router, edits, self.config)
        generators = [seeded(self.config.seed, rank, name) for name, _ in edits]
        positions = self.config.answer_positions or 0
        blocks = BlockAdam(
            [initial_block(self.sites, rank, generator, positions) for generator in generators],
            self.sites,
            self.config.lr,
        )
        alive = torch.arange(len(edits))  # edits still in the optimiser, in the order of its tables
        done: dict[int, Trained] = {}
        losses: list[list[float]] = [[] for _ in edits]
        for step in range(self.config.steps + 1):  # the last pass only checks
            factors = blocks.rounded()
            scores = Scores(len(alive))
            for group in groups:
                if len(group.edit):
                    number = torch.searchsorted(alive, group.edit)  # each row's place in the tables
                    own = {
                        name: Factors(*(factor[number.to(factor.device)] for factor in stacked))
                        for name, stacked in factors.items()
                    }
                    scores.add(group.replay.logits(own), group.replay.batch, number)
            per_edit, right, sure = scores.per_edit(self.config.min_target_probability or 0.0)
            leaves = (right & sure) if step < self.config.steps else torch.ones_like(right)
            for i, (edit, loss) in enumerate(zip(alive.tolist(), per_edit.tolist(), strict=True)):
                losses[edit].append(loss)
                if leaves[i]:
                    done[edit] = Trained(blocks.stored(i), bool(right[i]), step, rank, loss, losses[edit])
            if tell:
                tell(held_before + sum(result.holds for result in done.values()))
            if leaves.all():
                break
            blocks.step(scores.total())
            if leaves.any():
                stay = torch.nonzero(~leaves).flatten()
                alive = alive[stay]
                blocks.keep(stay)
                for group in groups:
                    group.keep(alive)
        return [done[i] for i in range(len(edits))]


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
