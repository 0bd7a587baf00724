"""Rows of tokens padded into batches for training and for keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..keys.pooling import weighted_means, weights_of
from ..types import Form
from .chat import Span

if TYPE_CHECKING:
    from ..keys.pooling import Pooling

FEW = 4
"""Rows below which a shared beginning is not worth a batch of its own."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as tokens: ``ids``, the span of ``words`` its key is taken of, and the ``form`` it was written in."""

    ids: list[int]
    words: Span
    form: Form


@dataclass(frozen=True)
class Example:
    """One prompt's tokens, the target's (end token included; empty for a key), and how many belong to the template."""

    prompt: list[int]
    target: list[int]
    words: tuple[int, int]
    opening: int = 0
    pooling: Pooling | None = None

    @classmethod
    def of(cls, encoded: Encoded, target: Sequence[int] = (), pooling: Pooling | None = None) -> Example:
        """Make a row of an encoded prompt; in a chat, what stands before the user's words is the template's opening."""
        words = encoded.words
        opening = words.start if encoded.form == "chat" and words.known else 0
        opening = min(opening, len(encoded.ids) - 2)
        return cls(encoded.ids, list(target), (words.start, words.stop), opening, pooling)

    @property
    def weights(self) -> Tensor:
        """(p, P) how much each token of the prompt weighs in the means that its key is made of."""
        own = weights_of(self.prompt, self.words, self.pooling)
        made = torch.zeros(len(own), len(self.prompt))
        made[:, slice(*self.words)] = own
        return made


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
    def weights(self) -> Tensor:
        """(p, R, L) how much each token weighs in the means that a key is made of."""
        weights = [row.weights for row in self.rows]
        made = torch.zeros(len(weights[0]), *self.ids.shape)
        for i, own in enumerate(weights):
            made[:, i, : self.shared] = own[:, : self.shared]
            made[:, i, self.split + 1 - own.shape[1] + self.shared : self.split + 1] = own[:, self.shared :]
        return made.to(self.ids.device)

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
        return weighted_means(hidden, self.weights[:, :, self.shared :])


@dataclass(frozen=True)
class EncoderBatch:
    """Prompts of their own, padded on the right, and what must be answered to each.

    Attributes:
        rows: the rows.
        ids: (R, L) prompts.
        mask: (R, L) 1 for real tokens.
        weights: (p, R, L) how much each token weighs in the means that a key is made of.
        width: columns that the longest target takes.
        flat_rows: (M,) the row of each target token.
        flat_columns: (M,) the decoder's column whose logits predict it (0 for a label).
        flat_targets: (M,) its id.
    """

    rows: list[Example]
    ids: Tensor
    mask: Tensor
    weights: Tensor
    width: int
    flat_rows: Tensor
    flat_columns: Tensor
    flat_targets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Example], pad_id: int, device: torch.device, last_column: bool = False) -> EncoderBatch:
        """Pad rows into one batch; with ``last_column`` a key is taken there, whatever stands in it."""
        width = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        own = [row.weights for row in rows]
        weights = torch.zeros(len(own[0]), len(rows), width)
        for i, row in enumerate(rows):
            ids[i, : len(row.prompt)] = torch.tensor(row.prompt)
            mask[i, : len(row.prompt)] = 1
            weights[:, i, : len(row.prompt)] = own[i]
        if last_column:
            weights[:] = torch.arange(width) == width - 1
        longest = max(1, max(len(row.target) for row in rows))
        return cls(list(rows), ids.to(device), mask.to(device), weights.to(device), longest, *_flat(rows))

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
            self.weights[:, on],
            self.width,
            torch.searchsorted(picks, self.flat_rows[flat]),
            self.flat_columns[flat],
            self.flat_targets[flat],
        )

    def key_means(self, hidden: Tensor) -> Tensor:
        """Return the means (R, p d) of the states (R, L, d) of the tokens that a key is pooled over."""
        return weighted_means(hidden, self.weights)


Batch = CausalBatch | EncoderBatch


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
        shared = row.opening if share else 0
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
