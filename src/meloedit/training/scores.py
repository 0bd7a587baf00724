"""How well the blocks do in one forward pass: the loss of each edit, and whether the edit holds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..backbones.batch import Batch


class EditScores(NamedTuple):
    """How well the blocks do, per edit.

    Attributes:
        loss: mean cross-entropy of its rows, nats per token.
        exact: whether every target token of every row has the greatest logit.
        token: the probability of the least probable target token of its rows.
        answer: the probability of the whole target in the row where that is least.
    """

    loss: Tensor
    exact: Tensor
    token: Tensor
    answer: Tensor


class Scores:
    """Losses and misses of the target tokens of one forward pass over all rows, summed up per row and then per edit.

    Args:
        edits: how many edits there are.
    """

    def __init__(self, edits: int) -> None:
        self._edits = edits
        self._nll: list[Tensor] = []
        self._tokens = 0
        self._loss: list[Tensor] = []
        self._number: list[Tensor] = []
        self._exact: list[Tensor] = []
        self._worst_nll: list[Tensor] = []
        self._whole_nll: list[Tensor] = []

    def add(
        self,
        logits: Tensor,
        batch: Batch,
        number: Tensor,
        which: Tensor | None = None,
        penalised: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Score the rows of a batch. Positions that are left out count as certain.

        Args:
            logits: (M, V) at the M target positions, or (M', V) at those of ``which``.
            batch: R rows.
            number: (R,) the edit that each row belongs to.
            which: (M',) the positions that are scored; ``None``: all.
            penalised: the logits with the model's own penalty, if it has one: of both the worse counts.
            targets: which of the logits are the targets'; ``None``: the tokens' numbers say it.

        Returns:
            The probabilities of the target's tokens (M,) or (M',).
        """
        count = len(batch.rows)
        row, own = (
            x.to(logits.device) if which is None else x[which].to(logits.device)
            for x in (batch.flat_rows, batch.flat_targets)
        )
        targets = own if targets is None else targets
        sizes = torch.bincount(batch.flat_rows, minlength=count).to(logits.device)
        nll = nn.functional.cross_entropy(logits.float(), targets, reduction="none")  # (M,)
        missed = logits.argmax(1) != targets
        if penalised is not None:
            nll = torch.maximum(nll, nn.functional.cross_entropy(penalised.float(), targets, reduction="none"))
            missed |= penalised.argmax(1) != targets
        zeros = torch.zeros(count, device=nll.device, dtype=torch.float32)
        self._loss.append((zeros.index_add(0, row, nll) / sizes).cpu())
        self._nll.append(nll.sum().cpu())
        self._tokens += len(nll)
        with torch.no_grad():
            self._exact.append((zeros.index_add(0, row, missed.to(nll)) == 0).cpu())
            self._worst_nll.append(zeros.scatter_reduce(0, row, nll.detach(), "amax").cpu())
            self._whole_nll.append(zeros.index_add(0, row, nll.detach()).cpu())
        self._number.append(number)
        return nll.detach().neg().exp().cpu()

    def total(self) -> Tensor:
        """Return the loss of the default mode: the sum over edits of the mean over an edit's rows."""
        number, loss = torch.cat(self._number), torch.cat(self._loss)
        return (loss / torch.bincount(number, minlength=self._edits)[number]).sum()

    def token_mean(self) -> Tensor:
        """Return the loss of the paper (Eq. 8): the mean over all target tokens of all rows."""
        return torch.stack(self._nll).sum() / self._tokens

    def per_edit(self) -> EditScores:
        """Return what decides whether the edits hold; an edit without rows holds for certain."""
        zeros = torch.zeros(self._edits, dtype=torch.float32)
        if not self._number:
            return EditScores(zeros, zeros == 0, zeros + 1, zeros + 1)
        number = torch.cat(self._number)
        rows = torch.bincount(number, minlength=self._edits)
        loss = zeros.index_add(0, number, torch.cat(self._loss).detach() / rows[number])
        exact = zeros.index_add(0, number, torch.cat(self._exact).float()) == rows
        token, answer = (
            zeros.scatter_reduce(0, number, torch.cat(nll), "amax").neg().exp()
            for nll in (self._worst_nll, self._whole_nll)
        )
        return EditScores(loss, exact, token, answer)

    def last_fails(self, least: float) -> Tensor:
        """Return for each row of the batch added last whether a target token misses, or is less likely than this."""
        return ~self._exact[-1] | (self._worst_nll[-1].neg().exp() < least)
