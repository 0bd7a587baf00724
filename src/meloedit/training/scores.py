"""How well the blocks do in one forward pass: the loss of each edit, and whether the edit holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbones.batch import Batch


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

    def add(self, logits: Tensor, batch: Batch, number: Tensor) -> None:
        """Score the rows of a batch.

        Args:
            logits: (M, V) at the M target positions.
            batch: R rows.
            number: (R,) the edit that each row belongs to.
        """
        row = batch.flat_rows.to(logits.device)
        targets, count = batch.flat_targets.to(logits.device), len(batch.rows)
        nll = nn.functional.cross_entropy(logits.float(), targets, reduction="none")  # (M,)
        zeros = torch.zeros(count, device=nll.device)
        sizes = torch.bincount(row, minlength=count).to(nll)
        self._loss.append((zeros.index_add(0, row, nll) / sizes).cpu())
        self._nll.append(nll.sum().cpu())
        self._tokens += len(nll)
        with torch.no_grad():
            misses = (logits.argmax(1) != targets).to(nll)
            self._exact.append((zeros.index_add(0, row, misses) == 0).cpu())
            self._worst_nll.append(zeros.scatter_reduce(0, row, nll.detach(), "amax").cpu())
        self._number.append(number)

    def total(self) -> Tensor:
        """Return the loss of the default mode: the sum over edits of the mean over an edit's rows."""
        number, loss = torch.cat(self._number), torch.cat(self._loss)
        return (loss / torch.bincount(number, minlength=self._edits)[number]).sum()

    def token_mean(self) -> Tensor:
        """Return the loss of the paper (Eq. 8): the mean over all target tokens of all rows."""
        return torch.stack(self._nll).sum() / self._tokens

    def per_edit(self, min_target_probability: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return what decides whether the edits hold.

        Args:
            min_target_probability: see ``MeloConfig``.

        Returns:
            Per edit its loss (nats per token), whether every target token has the greatest logit, and whether every one
            has at least ``min_target_probability``.
        """
        number = torch.cat(self._number)
        rows = torch.bincount(number, minlength=self._edits)
        zeros = torch.zeros(self._edits)
        loss = zeros.index_add(0, number, torch.cat(self._loss).detach() / rows[number])
        exact = zeros.index_add(0, number, torch.cat(self._exact).float()) == rows
        worst_nll = zeros.scatter_reduce(0, number, torch.cat(self._worst_nll), "amax")
        likely = worst_nll.neg().exp() >= min_target_probability
        return loss, exact, likely
