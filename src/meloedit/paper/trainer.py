"""Training in the paper's way: one block for a batch of edits (arXiv 2312.11795, Eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..backbones.batch import Example
from ..backbones.contexts import frozen
from ..errors import EditError
from ..hooks.blocks import Block, Factors, Site
from ..training.optimizer import EPSILON, BlockAdam
from ..training.scores import Scores
from ..training.trainer import Trained, Trainer, group_rows, initial_block, seeded
from .config import PaperConfig


class BatchTrainer(Trainer):
    """Trains one block on all rows of a batch of edits together, for a fixed number of iterations.

    min over A_t, B_t of the mean cross-entropy over the batch's target tokens (Eq. 8), by Adam with StepLR: the rate of
    iteration i is lr * lr_decay^(i // lr_step). No edit leaves early, and an edit that does not hold at the end is
    stored all the same, as the paper has it; ``Trained.held`` tells.

    The scale is 1 (alpha = p). The released code (``reference_quirks``) draws A by ``kaiming_uniform_`` on an (in, p n)
    matrix, that is from U(-1/sqrt(p), 1/sqrt(p)) once its scale is folded in, and multiplies A and B by sqrt(n) each,
    where n is the declared number of blocks: to Adam that is a rate of lr sqrt(n) and an epsilon divided by sqrt(n).
    """

    config: PaperConfig

    def train(
        self, edits: Sequence[tuple[str, Sequence[Example]]], tell: Callable[[int], None] | None = None
    ) -> list[Trained]:
        """Train the block of a batch of edits, given as their ids and rows.

        Args:
            edits: ids and rows.
            tell: told, after every iteration, how many edits hold.

        Returns:
            One result per edit, in order; all have the same block.
        """
        config, quirks = self.config, self.config.reference_quirks
        generator = seeded(config.seed, config.rank, "/".join(name for name, _ in edits))
        initial = _released_initial if quirks else initial_block
        scale = math.sqrt(config.declared_blocks) if quirks else 1.0
        with frozen(self.router.model), torch.inference_mode(False), torch.enable_grad():
            blocks = BlockAdam(
                [initial(self.sites, config.rank, generator)], self.sites, config.lr * scale, EPSILON / scale
            )
            groups = group_rows(self.router, edits, config)
            for step in range(config.steps + 1):  # the last pass only checks
                blocks.lr = config.lr * scale * config.lr_decay ** (step // config.lr_step)
                factors = blocks.rounded()
                scores = Scores(len(edits))
                for group in groups:
                    own = {
                        name: Factors(*(factor.expand(len(group.edit), -1, -1) for factor in stacked))
                        for name, stacked in factors.items()
                    }
                    scores.add(group.replay.logits(own), group.replay.batch, group.edit)
                loss, right, _ = scores.per_edit(0.0)
                if tell:
                    tell(int(right.sum()))
                if step < config.steps:
                    blocks.step(scores.token_mean())
        block = blocks.stored(0)
        if not all(factor.isfinite().all() for factors in block.values() for factor in factors):
            raise EditError(f"training diverged at lr {config.lr:g}: this batch is not stored; take a smaller lr")
        return [
            Trained(block, held, config.steps, config.rank, own)
            for held, own in zip(right.tolist(), loss.tolist(), strict=True)
        ]


def _released_initial(sites: Sequence[Site], rank: int, generator: torch.Generator) -> Block:
    """Return a block as the released code begins with: A uniform, B zero."""
    bound = rank**-0.5
    return {
        site.name: Factors(
            ((2 * torch.rand(rank, site.inputs, generator=generator) - 1) * bound).to(site.device),
            torch.zeros(site.outputs, rank, device=site.device),
            torch.zeros(rank, 0, device=site.device),
        )
        for site in sites
    }
