"""Losses and hits of the target tokens of one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbones.batch import Batch


class Scores:
    """Losses and hits of the target tokens of one forward pass, gathered per row and then per edit."""

    def __init__(self, edits: int) -> None:
        self._edits = edits
        self._nll: list[Tensor] = []
        self._tokens = 0
        self._loss: list[Tensor] = []
        self._number: list[Tensor] = []
        self._right: list[Tensor] = []
        self._worst: list[Tensor] = []

    def add(self, logits: Tensor, batch: Batch, number: Tensor) -> None:
        """Score logits (M, V) at the target positions of a batch whose rows belong to the edits ``number`` (R,)."""
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
            self._right.append((zeros.index_add(0, row, misses) == 0).cpu())
            self._worst.append(zeros.scatter_reduce(0, row, nll.detach(), "amax").cpu())
        self._number.append(number)

    def total(self) -> Tensor:
        """Return the sum over edits of the mean over their rows."""
        number, loss = torch.cat(self._number), torch.cat(self._loss)
        return (loss / torch.bincount(number, minlength=self._edits)[number]).sum()

    def token_mean(self) -> Tensor:
        """Return the mean over all target tokens of all rows."""
        return torch.stack(self._nll).sum() / self._tokens

    def per_edit(self, min_target_probability: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return per edit its loss, whether all its target tokens are greatest, and whether all are likely enough."""
        number = torch.cat(self._number)
        rows = torch.bincount(number, minlength=self._edits)
        zeros = torch.zeros(self._edits)
        loss = zeros.index_add(0, number, torch.cat(self._loss).detach() / rows[number])
        right = zeros.index_add(0, number, torch.cat(self._right).float()) == rows
        sure = zeros.scatter_reduce(0, number, torch.cat(self._worst), "amax").neg().exp() >= min_target_probability
        return loss, right, sure
