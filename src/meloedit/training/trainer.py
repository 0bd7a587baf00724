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
from ..callers.precision import exact
from ..config import MeloConfig
from ..hooks.blocks import Block, Factors, Site, with_positions
from .optimizer import BlockAdam
from .passes import LOOK_AGAIN, Passes
from .penalties import Penalties
from .replay import MicroBatch, micro_batches
from .scores import EditScores

if TYPE_CHECKING:
    from ..hooks.router import Router

HoldProgress = Callable[[int], None]
"""Called after every step with the number of edits that hold."""


@dataclass
class Trained:
    """The result of training for one edit.

    Attributes:
        block: the block in float16, as it is stored.
        holds: whether greedy decoding with this very block gives the target and stops, for every row of the edit, those
            that it was only tried on included.
        steps: optimiser steps taken, over all ranks tried.
        rank: rank of the block.
        loss: mean cross-entropy of the target with this block, nats per token.
        losses: the loss before each step at the last rank.
        confidence: the probability of the least probable target token, over all rows that it was trained on or tried.
    """

    block: Block
    holds: bool
    steps: int
    rank: int
    loss: float
    losses: list[float] = field(default_factory=list)
    confidence: float = 0.0


class Trainer:
    """Trains one block per edit, all edits of a call together.

    The loss is the sum over edits of the mean over the edit's rows of the mean cross-entropy over target tokens. So
    with an elementwise optimiser (Adam) every block takes the steps it would take alone.

    The forward pass uses the blocks rounded to float16, as they will be stored; the backward pass ignores the rounding.
    So if every target token, the end token included, has the greatest logit in a forward pass, greedy decoding with the
    stored block gives the target and stops. If each of them also has ``min_target_probability``, or a long target as a
    whole ``min_answer_probability``, the block is tried on the rows that are only tried. It leaves the optimiser if
    every token there has ``min_tried_probability``; the rows that fail are trained on from then on. An edit that does
    not hold after ``config.steps`` is trained again with twice the rank.

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

        self.passes = Passes(Penalties(router.backbone))

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
        # whatever the caller is in: a notebook's torch.no_grad(), a server's torch.inference_mode(), autocast
        own = exact(self.router.key_device)
        with frozen(self.router.model), torch.inference_mode(False), torch.enable_grad(), own:
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
        batches, tried = self._batches(edits)
        generators = [seeded(config.seed, rank, name) for name, _ in edits]
        positions = [answer_positions(config, rows) for _, rows in edits]
        least_token = torch.tensor([least_token_probability(config, rows) for _, rows in edits])
        # All blocks of a stack have one shape. Columns that an edit does not need stay zero, and are cut off later.
        initial = [initial_block(self.sites, rank, generator, max(positions)) for generator in generators]
        blocks = BlockAdam(initial, self.sites, config.lr)
        alive = torch.arange(len(edits))  # edits still in the optimiser, in the order of its tables
        done: dict[int, Trained] = {}
        losses: list[list[float]] = [[] for _ in edits]
        for step in range(config.steps + 1):  # the last pass only checks
            rounded, last = blocks.rounded(), step == config.steps
            look = self.passes.over(batches, rounded, alive, last or step % LOOK_AGAIN == 0)
            now, leaves = look.scores, self._learned(look.scores, least_token[alive])
            if not look.whole and leaves.any():
                now = look.sure(alive[leaves])
                leaves &= self._learned(now, least_token[alive])
            leaves |= torch.tensor(last)
            # Late in training those that are slow are tried, too, while there are steps left to learn what fails.
            asked = alive if step == 2 * config.steps // 3 else alive[leaves]
            elsewhere, failing = self.passes.trial(tried, rounded, alive, asked, config.min_tried_probability)
            for batch in [] if last else failing:
                leaves &= ~torch.isin(alive, batch.edits)
            exact, least = now.exact & elsewhere.exact, torch.minimum(now.token, elsewhere.token).tolist()
            for i, (edit, loss) in enumerate(zip(alive.tolist(), now.loss.tolist(), strict=True)):
                losses[edit].append(loss)
                if leaves[i]:
                    block = with_positions(blocks.stored(i), positions[edit])
                    done[edit] = Trained(block, bool(exact[i]), step, rank, loss, losses[edit], least[i])
            progress(before + sum(result.holds for result in done.values()))
            if leaves.all():
                break
            blocks.step(look.learning.total())
            batches += failing
            if leaves.any():
                stay = torch.nonzero(~leaves).flatten()
                alive = alive[stay]
                blocks.keep(stay)
                for batch in (*batches, *tried):
                    batch.keep(alive)
        return [done[i] for i in range(len(edits))]

    def _learned(self, scores: EditScores, least_token: Tensor) -> Tensor:
        """Return which edits are ready to be tried: exact, and as likely as the settings want."""
        likely = (scores.answer >= self.config.min_answer_probability) & (scores.token >= least_token)
        return scores.exact & likely

    def _batches(self, edits: Sequence[tuple[str, Sequence[Example]]]) -> tuple[list[MicroBatch], list[MicroBatch]]:
        """Return the rows of edits that blocks are trained on, and those that they are tried on.

        Their prefixes are computed together: both share those of chat templates.
        """
        batches, tried = micro_batches(self.router, edits, self.config), []
        for batch in batches:
            flags = torch.tensor([row.tried for row in batch.replay.batch.rows])
            if flags.all():
                tried.append(batch)
            elif flags.any():
                tried.append(batch.take(flags))
        return [batch for batch in batches if not any(batch is other for other in tried)], tried


def answer_positions(config: MeloConfig, rows: Sequence[Example]) -> int:
    """Return how many positions of an answer get an input of their own in the block of an edit with these rows."""
    least, longest = config.answer_positions or 0, max(row.place + len(row.target) for row in rows)
    if not least or longest <= least:
        return least
    # A power of two, so that the blocks of a store have few shapes: a batch gathers each shape apart.
    return max(least, min(1 << (longest - 1).bit_length(), config.max_answer_positions))


def least_token_probability(config: MeloConfig, rows: Sequence[Example]) -> float:
    """Return the least probability of every target token before an edit with these rows leaves the optimiser.

    It is 0 for a target so long that tokens of ``min_target_probability`` would give it less than
    ``min_answer_probability``: then that of the whole decides alone.
    """
    least, longest = config.min_target_probability or 0.0, max(len(row.target) for row in rows)
    return least if least**longest >= config.min_answer_probability else 0.0


def seeded(seed: int, rank: int, name: str) -> torch.Generator:
    """Return a generator that depends on these alone."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{rank}/{name}".encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(number % 2**63)


def initial_block(sites: Sequence[Site], rank: int, generator: torch.Generator, positions: int = 0) -> Block:
    """Return a block that adds nothing yet: A Gaussian, B zero, and P zero for a number of answer positions."""
    return {
        site.name: Factors(
            (torch.randn(rank, site.inputs, generator=generator, dtype=torch.float32) / site.inputs**0.5).to(
                site.device
            ),
            torch.zeros(site.outputs, rank, device=site.device, dtype=torch.float32),
            torch.zeros(rank, positions, device=site.device, dtype=torch.float32),
        )
        for site in sites
    }
