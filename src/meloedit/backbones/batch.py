"""Rows of tokens padded into batches for training and for keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..keys.pooling import weighted_means
from ..types import Form
from .chat import Span

FEW = 4
"""Rows below which a shared beginning is not worth a batch of its own."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as tokens.

    Attributes:
        ids: the tokens.
        span: the tokens that its key is taken of: those of the user's words, or of one of their sentences.
        form: how the prompt was written.
    """

    ids: list[int]
    span: Span
    form: Form


@dataclass(frozen=True)
class Example:
    """A row of a batch: a prompt to take a key of, or a prompt and what must be answered to it.

    Attributes:
        prompt: the prompt's tokens.
        target: the target's tokens, the end token included; empty for a key.
        prefix_length: how many tokens at the beginning are the chat template's: prompts share them.
        key_weights: (p, P) the weight of each token's state in the means that the key is made of; ``None``: no key is
            taken.
    """

    prompt: list[int]
    target: list[int]
    prefix_length: int = 0
    key_weights: Tensor | None = None

    @classmethod
    def of(cls, encoded: Encoded, target: Sequence[int] = (), key_weights: Tensor | None = None) -> Example:
        """Make a row of an encoded prompt; in a chat, everything before the span is the shared prefix."""
        prefix = encoded.span.start if encoded.form == "chat" and encoded.span.known else 0
        return cls(encoded.ids, list(target), min(prefix, len(encoded.ids) - 2), key_weights)


@dataclass(frozen=True)
class CausalBatch:
    """Rows in columns such that every prompt ends in one column.

    The columns are: the opening that all rows share, padding, the rest of the prompt, the target, padding. Padding is
    masked and takes no position, so its place does not matter.

    Attributes:
        rows: the rows.
        ids: (R, L) prompt, then target without its last token (which predicts nothing).
        mask: (R, L) 1 for real tokens.
        shared: columns of the opening.
        split: column of the last prompt token, the same for every row.
        flat_rows: (M,) the row of each target token.
        flat_columns: (M,) the column whose logits predict it.
        flat_targets: (M,) its id.
    """

    rows: list[Example]
    ids: Tensor
    mask: Tensor
    shared: int
    split: int
    flat_rows: Tensor
    flat_columns: Tensor
    flat_targets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Example], pad_id: int, device: torch.device, shared: int = 0) -> CausalBatch:
        """Pad rows, which all begin with the same ``shared`` tokens, into one batch."""
        left = max(
            shared + 2, max(len(row.prompt) for row in rows)
        )  # a prefix pass takes all but the last: never nothing
        width = left + max(0, max(len(row.target) for row in rows) - 1)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            rest = torch.tensor(row.prompt[shared:] + row.target[:-1])
            start = left - (len(row.prompt) - shared)
            ids[i, start : start + len(rest)] = rest
            mask[i, start : start + len(rest)] = 1
        if shared:
            ids[:, :shared] = torch.tensor(rows[0].prompt[:shared])
            mask[:, :shared] = 1
        flat_rows, within, targets = _flat(rows)
        return cls(list(rows), ids.to(device), mask.to(device), shared, left - 1, flat_rows, left - 1 + within, targets)

    @property
    def last(self) -> Tensor:
        """(R,) column of each row's last prompt token."""
        return torch.full((len(self.rows),), self.split, device=self.ids.device)

    @property
    def positions(self) -> Tensor:
        """(R, L) position of each real token in its row."""
        return (self.mask.cumsum(1) - 1).clamp(min=0)

    @property
    def key_weights(self) -> Tensor:
        """(p, R, L) the weight of each token's state in the means that the keys are made of."""
        rows = [_key_weights(row) for row in self.rows]
        weights = torch.zeros(len(rows[0]), *self.ids.shape)
        for i, row in enumerate(rows):
            weights[:, i, : self.shared] = row[:, : self.shared]
            weights[:, i, self.split + 1 - row.shape[1] + self.shared : self.split + 1] = row[:, self.shared :]
        return weights.to(self.ids.device)

    def select(self, picks: Tensor) -> CausalBatch:
        """Return some of the rows, ascending, in the same columns."""
        if len(picks) == len(self.rows):
            return self
        on, flat = picks.to(self.ids.device), torch.nonzero(torch.isin(self.flat_rows, picks)).flatten()
        return CausalBatch(
            [self.rows[i] for i in picks.tolist()],
            self.ids[on],
            self.mask[on],
            self.shared,
            self.split,
            torch.searchsorted(picks, self.flat_rows[flat]),
            self.flat_columns[flat],
            self.flat_targets[flat],
        )

    def key_means(self, hidden: Tensor) -> Tensor:
        """Return the means (R, p d) of the states (R, L - shared, d) of the tokens that a key is pooled over."""
        return weighted_means(hidden, self.key_weights[:, :, self.shared :])


@dataclass(frozen=True)
class EncoderBatch:
    """Prompts of their own, padded on the right, and what must be answered to each.

    Attributes:
        rows: the rows.
        ids: (R, L) prompts.
        mask: (R, L) 1 for real tokens.
        width: columns that the longest target takes.
        flat_rows: (M,) the row of each target token.
        flat_columns: (M,) the decoder's column whose logits predict it (0 for a label).
        flat_targets: (M,) its id.
    """

    rows: list[Example]
    ids: Tensor
    mask: Tensor
    width: int
    flat_rows: Tensor
    flat_columns: Tensor
    flat_targets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Example], pad_id: int, device: torch.device) -> EncoderBatch:
        """Pad rows into one batch."""
        width = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.prompt)] = torch.tensor(row.prompt)
            mask[i, : len(row.prompt)] = 1
        longest = max(1, max(len(row.target) for row in rows))
        return cls(list(rows), ids.to(device), mask.to(device), longest, *_flat(rows))

    @property
    def last(self) -> Tensor:
        """(R,) column of each row's last prompt token."""
        return self.mask.sum(1) - 1

    def select(self, picks: Tensor) -> EncoderBatch:
        """Return some of the rows, ascending, in the same columns."""
        on, flat = picks.to(self.ids.device), torch.nonzero(torch.isin(self.flat_rows, picks)).flatten()
        return EncoderBatch(
            [self.rows[i] for i in picks.tolist()],
            self.ids[on],
            self.mask[on],
            self.width,
            torch.searchsorted(picks, self.flat_rows[flat]),
            self.flat_columns[flat],
            self.flat_targets[flat],
        )

    def key_means(self, hidden: Tensor) -> Tensor:
        """Return the means (R, p d) of the states (R, L, d) of the tokens that a key is pooled over."""
        weights = torch.zeros(len(_key_weights(self.rows[0])), *self.ids.shape)
        for i, row in enumerate(self.rows):
            weights[:, i, : len(row.prompt)] = _key_weights(row)
        return weighted_means(hidden, weights)


Batch = CausalBatch | EncoderBatch


def _key_weights(row: Example) -> Tensor:
    assert row.key_weights is not None, "this row was not made to take a key of"
    return row.key_weights


def _flat(rows: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, place in its target, and id of each target token of all rows."""
    lengths = torch.tensor([len(row.target) for row in rows])
    first = lengths.cumsum(0) - lengths
    within = torch.arange(int(lengths.sum())) - first.repeat_interleave(lengths)
    targets = torch.tensor([token for row in rows for token in row.target], dtype=torch.long)
    return torch.arange(len(rows)).repeat_interleave(lengths), within, targets


def of_like_length(rows: Sequence[Example], size: int) -> list[list[int]]:
    """Return the numbers of rows in parts of ``size`` at most, rows of like length together."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].target), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def batches(
    rows: Sequence[Example], pad_id: int, device: torch.device, size: int, share: bool
) -> list[tuple[list[int], Batch]]:
    """Pack rows into batches, rows with the same template opening together, so that it is computed once.

    Args:
        rows: the rows.
        pad_id: the token that stands where there is none.
        device: where token ids go.
        size: rows per batch at most; rows of like length go together, so that little is spent on padding.
        share: whether an opening that many rows have is computed once.

    Returns:
        Pairs of row numbers and their batch.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        shared = row.prefix_length if share else 0
        groups.setdefault(tuple(row.prompt[:shared]), []).append(i)
    merged: dict[tuple[int, ...], list[int]] = {}
    for opening, members in groups.items():
        merged.setdefault(opening if len(members) >= FEW else (), []).extend(members)
    packed: list[tuple[list[int], Batch]] = []
    for opening, members in merged.items():
        members.sort(key=lambda i: (len(rows[i].target), len(rows[i].prompt), i))
        for start in range(0, len(members), size):
            part = members[start : start + size]
            packed.append((part, CausalBatch.of([rows[i] for i in part], pad_id, device, len(opening))))
    return packed
