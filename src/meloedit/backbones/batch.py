"""Batches: prompts and targets as padded tensors, for training and for reading keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..keys.pooling import weighted_means
from ..types import Form
from .chat import Span

MIN_SHARING_ROWS = 4
"""Least number of rows with the same prefix that are batched apart from the others, so that the prefix runs once."""
MOST_PADDING = 320
"""Padded columns of a batch, over all its rows, from which on another batch costs less time."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as tokens.

    Attributes:
        ids: the tokens.
        span: the tokens that its key is pooled over: the user's text, or one sentence of it.
        form: whether the prompt is raw text or in the chat template.
    """

    ids: list[int]
    span: Span
    form: Form


@dataclass(frozen=True)
class Example:
    """A row of a batch: a prompt and its target, for training; or a prompt alone, to read its key.

    Attributes:
        prompt: the P tokens of the prompt.
        target: the target's tokens, the end token included; empty if only the key is read.
        prefix_length: how many tokens at the beginning belong to the chat template; many prompts share them.
        key_weights: (p, P) the weights of the tokens' states in the p means that make the key; ``None`` if no key is
            read.
        tried: whether a block is only tried on the row, and trained on it where that fails.
        place: the answer position of the target's first token.
        other: the token that serves as well in the place of the target's first one: its first word with a blank before
            it, or without; -1: none does.
    """

    prompt: list[int]
    target: list[int]
    prefix_length: int = 0
    key_weights: Tensor | None = None
    tried: bool = False
    place: int = 0
    other: int = -1

    @classmethod
    def of(cls, encoded: Encoded, target: Sequence[int] = (), key_weights: Tensor | None = None) -> Example:
        """Make a row of an encoded prompt. In a chat, all tokens before the user's text are the prefix."""
        prefix = encoded.span.start if encoded.form == "chat" and encoded.span.known else 0
        return cls(encoded.ids, list(target), min(prefix, len(encoded.ids) - 2), key_weights)


@dataclass(frozen=True)
class CausalBatch:
    """Rows padded such that all prompts end in the same column.

    The columns are: the prefix that all rows share, padding, the rest of the prompt, the target, padding. Padding is
    masked and takes no position, so it may stand anywhere.

    Attributes:
        rows: the rows.
        ids: (R, L) the prompt, then the target without its last token, which predicts nothing.
        mask: (R, L) 1 for real tokens.
        shared_prefix: number of columns of the prefix that all rows share.
        split: column of the last prompt token, the same for every row.
        flat_rows: (M,) the row of each target token.
        flat_columns: (M,) the column whose logits predict it.
        flat_targets: (M,) its id.
    """

    rows: list[Example]
    ids: Tensor
    mask: Tensor
    shared_prefix: int
    split: int
    flat_rows: Tensor
    flat_columns: Tensor
    flat_targets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Example], pad_id: int, device: torch.device, shared_prefix: int = 0) -> CausalBatch:
        """Pad rows, which all begin with the same ``shared_prefix`` tokens, into one batch."""
        # The pass that fills the cache runs the columns from the shared prefix to the split, and needs at least one.
        left = max(shared_prefix + 2, max(len(row.prompt) for row in rows))
        width = left + max(0, max(len(row.target) for row in rows) - 1)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            rest = torch.tensor(row.prompt[shared_prefix:] + row.target[:-1])
            start = left - (len(row.prompt) - shared_prefix)
            ids[i, start : start + len(rest)] = rest
            mask[i, start : start + len(rest)] = 1
        if shared_prefix:
            ids[:, :shared_prefix] = torch.tensor(rows[0].prompt[:shared_prefix])
            mask[:, :shared_prefix] = 1
        split = left - 1
        flat_rows, within, targets = _flat(rows)
        return cls(
            list(rows), ids.to(device), mask.to(device), shared_prefix, split, flat_rows, split + within, targets
        )

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
        """(p, R, L) the weights of the tokens' states in the p means that make each row's key."""
        rows = [_key_weights(row) for row in self.rows]
        weights = torch.zeros(len(rows[0]), *self.ids.shape, dtype=torch.float32)
        for i, row in enumerate(rows):
            rest = row[:, self.shared_prefix :]
            weights[:, i, : self.shared_prefix] = row[:, : self.shared_prefix]
            weights[:, i, self.split + 1 - rest.shape[1] : self.split + 1] = rest
        return weights.to(self.ids.device)

    def select(self, picks: Tensor) -> CausalBatch:
        """Return the batch with only the rows of these numbers (ascending); columns stay."""
        if len(picks) == len(self.rows):
            return self
        on, flat = picks.to(self.ids.device), torch.nonzero(torch.isin(self.flat_rows, picks)).flatten()
        return CausalBatch(
            [self.rows[i] for i in picks.tolist()],
            self.ids[on],
            self.mask[on],
            self.shared_prefix,
            self.split,
            torch.searchsorted(picks, self.flat_rows[flat]),
            self.flat_columns[flat],
            self.flat_targets[flat],
        )

    def key_means(self, hidden: Tensor) -> Tensor:
        """Return the means (R, p d) that make the keys, from the states (R, L - shared_prefix, d) after the prefix."""
        return weighted_means(hidden, self.key_weights[:, :, self.shared_prefix :])


@dataclass(frozen=True)
class EncoderBatch:
    """Prompts for an encoder, padded on the right, and their targets apart.

    Attributes:
        rows: the rows.
        ids: (R, L) the prompts' tokens.
        mask: (R, L) 1 for real tokens.
        width: number of tokens of the longest target, at least 1.
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
        """Return the batch with only the rows of these numbers (ascending); columns stay."""
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
        """Return the means (R, p d) that make the keys, from the prompts' states (R, L, d)."""
        weights = torch.zeros(len(_key_weights(self.rows[0])), *self.ids.shape, dtype=torch.float32)
        for i, row in enumerate(self.rows):
            weights[:, i, : len(row.prompt)] = _key_weights(row)
        return weighted_means(hidden, weights)


Batch = CausalBatch | EncoderBatch


def _key_weights(row: Example) -> Tensor:
    assert row.key_weights is not None, "this row was not made to take a key of"
    return row.key_weights


def _flat(rows: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return three tensors over all target tokens (M,): the row, the position in its target, and the id."""
    lengths = torch.tensor([len(row.target) for row in rows])
    first = lengths.cumsum(0) - lengths
    within = torch.arange(int(lengths.sum())) - first.repeat_interleave(lengths)
    targets = torch.tensor([token for row in rows for token in row.target], dtype=torch.long)
    return torch.arange(len(rows)).repeat_interleave(lengths), within, targets


def of_like_length(rows: Sequence[Example], size: int) -> list[list[int]]:
    """Sort rows by length and return their numbers in groups of at most ``size``, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].target), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def batches(
    rows: Sequence[Example], pad_id: int, device: torch.device, size: int, share: bool
) -> list[tuple[list[int], Batch]]:
    """Pack rows into batches; rows with the same template prefix go together, so that it is computed once.

    Args:
        rows: the rows.
        pad_id: the token that fills padded columns.
        device: where token ids go.
        size: the most rows of a batch; rows of similar length go together, so that little is padded.
        share: whether rows with the same prefix go together; if not, no batch has a shared prefix.

    Returns:
        Each batch with the numbers of its rows.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        prefix_length = row.prefix_length if share else 0
        groups.setdefault(tuple(row.prompt[:prefix_length]), []).append(i)
    merged: dict[tuple[int, ...], list[int]] = {}
    for prefix, members in groups.items():
        merged.setdefault(prefix if len(members) >= MIN_SHARING_ROWS else (), []).extend(members)
    packed: list[tuple[list[int], Batch]] = []
    for prefix, members in merged.items():
        for part in _little_padded(rows, members, size, len(prefix)):
            packed.append((part, CausalBatch.of([rows[i] for i in part], pad_id, device, len(prefix))))
    return packed


def _little_padded(rows: Sequence[Example], members: Sequence[int], size: int, prefix: int) -> list[list[int]]:
    """Return the numbers of rows in groups of at most ``size``, of like length in both prompt and target."""

    def padded(group: Sequence[int]) -> int:
        width = max(len(rows[i].prompt) for i in group) - prefix + max(len(rows[i].target) for i in group)
        return sum(width - (len(rows[i].prompt) - prefix + len(rows[i].target)) for i in group)

    order = sorted(
        members, key=lambda i: (len(rows[i].target).bit_length(), len(rows[i].prompt), len(rows[i].target), i)
    )
    groups: list[list[int]] = []
    for i in order:
        if not groups or len(groups[-1]) == size or padded([*groups[-1], i]) > MOST_PADDING:
            groups.append([])
        groups[-1].append(i)
    return groups
