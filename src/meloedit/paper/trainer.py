"""The trainer of paper mode: one block for a batch of edits (arXiv 2312.11795, Eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..backbones.batch import Example
from ..errors import EditError
from ..hooks.blocks import Block, Factors, Site
from ..training.optimizer import EPSILON, BlockAdam
from ..training.replay import MicroBatch, micro_batches
from ..training.scores import Scores
from ..training.trainer import HoldProgress, Trained, Trainer, initial_block, seeded
from .config import PaperConfig


class BatchTrainer(Trainer):
    """Trains one block on all rows of a batch of edits together, for a fixed number of iterations.

    min over A_t, B_t of the mean cross-entropy over the batch's target tokens (Eq. 8), by Adam with StepLR: the rate of
    iteration i is lr * lr_decay^(i // lr_step). No edit leaves early. An edit that does not hold at the end is stored
    all the same, as in the paper; ``Trained.holds`` says so. All results of a call have the same block.

    The scale is 1 (alpha = p). The released code (``reference_quirks``) draws A by ``kaiming_uniform_`` on an (in, p n)
    matrix, that is from U(-1/sqrt(p), 1/sqrt(p)) once its scale is folded in, and multiplies A and B by sqrt(n) each,
    where n is the declared number of blocks: to Adam that is a rate of lr sqrt(n) and an epsilon divided by sqrt(n).
    """

    config: PaperConfig

    def _train(self, edits: Sequence[tuple[str, Sequence[Example]]], progress: HoldProgress) -> list[Trained]:
        config, quirks = self.config, self.config.reference_quirks
        generator = seeded(config.seed, config.rank, "/".join(name for name, _ in edits))
        initial = (_released_initial if quirks else initial_block)(self.sites, config.rank, generator)
        scale = math.sqrt(config.declared_blocks) if quirks else 1.0
        blocks = BlockAdam([initial], self.sites, config.lr * scale, EPSILON / scale)
        batches = micro_batches(self.router, edits, config)
        for step in range(config.steps + 1):  # the last pass only checks
            scores = _forward(blocks.rounded(), batches, len(edits))
            loss, exact, confidence, _ = scores.per_edit()
            progress(int(exact.sum()))
            if step < config.steps:
                blocks.lr = config.lr * scale * config.lr_decay ** (step // config.lr_step)
                blocks.step(scores.token_mean())
        block = blocks.stored(0)
        if not all(factor.isfinite().all() for factors in block.values() for factor in factors):
            raise EditError(f"training diverged at lr {config.lr:g}: this batch is not stored; take a smaller lr")
        return [
            Trained(block, holds, config.steps, config.rank, edit_loss, confidence=least)
            for holds, edit_loss, least in zip(exact.tolist(), loss.tolist(), confidence.tolist(), strict=True)
        ]


def _forward(block: Block, batches: Sequence[MicroBatch], edits: int) -> Scores:
    """Score the rows of all edits with one block, a stack (1, ...)."""
    scores = Scores(edits)
    for batch in batches:
        per_row = {
            name: Factors(*(factor.expand(len(batch.edits), -1, -1) for factor in factors))
            for name, factors in block.items()
        }
        scores.add(batch.replay.logits(per_row), batch.replay.batch, batch.edits)
    return scores


def _released_initial(sites: Sequence[Site], rank: int, generator: torch.Generator) -> Block:
    """Return a block as the released code begins with: A uniform, B zero."""
    bound = rank**-0.5
    return {
        site.name: Factors(
            ((2 * torch.rand(rank, site.inputs, generator=generator, dtype=torch.float32) - 1) * bound).to(site.device),
            torch.zeros(site.outputs, rank, device=site.device, dtype=torch.float32),
            torch.zeros(rank, 0, device=site.device, dtype=torch.float32),
        )
        for site in sites
    }
