"""PromptBatch: the prompts of one call - where they are, which tokens make their keys - and their routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..backbones.chat import Span
from ..errors import RoutingError
from ..keys.pooling import PooledStates, Pooling, weighted_means
from ..results import Boundary, Route
from .bank import BlockBank
from .blocks import RowBlocks

if TYPE_CHECKING:
    from .key_reader import KeyReader

Outcome = tuple[Sequence[Route], int]
"""The routes of a batch's rows, and how many rows each prompt has."""
NO_ROUTES: Outcome = ((), 1)


class KeyRow(NamedTuple):
    """A row whose key is made of text and states: the prompt's tokens, their columns, and the span of the key."""

    ids: list[int]
    columns: list[int]
    span: Span


@dataclass
class PromptBatch:
    """The prompts of one call, and their routes once these are decided.

    Columns count over the whole padded sequence, cached part included.

    Attributes:
        reader: knows which tokens make a key.
        length: columns of the prompt; the route is decided when this many have been seen.
        key_mask: (B, length) true where the key is pooled.
        key_rows: the rows whose tokens are known and have text, by number.
        acts_from: per row the column from which a block of reach ``answer`` acts: that of the last prompt token; 0
            where the answer is in a sequence of its own.
        boundary: how the end of the prompt was known.
        user_turn_known: per row, whether ``key_mask`` covers the user's own words; else the whole prompt.
        repeats: rows per prompt: its beams or samples.
        tokens: (B, length) the tokens of the prompts; -1 where there is none, or none is known.
        states: (B, T, d) the key layer's states in the columns run so far, from ``first`` on; they stay, since a cache
            that the batch travels with may be the beginning of another prompt.
        first: see ``states``.
    """

    reader: KeyReader
    length: int
    key_mask: Tensor
    key_rows: dict[int, KeyRow]
    acts_from: list[int]
    boundary: Boundary
    user_turn_known: list[bool]
    decided: bool = False
    repeats: int = 1
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    states: Tensor | None = None
    first: int = 0
    routes: list[Route] = field(default_factory=list)
    blocks: list[RowBlocks] = field(default_factory=list)

    def repeated(self, repeats: int) -> PromptBatch:
        """Return the routed batch with each row ``repeats`` times: a prompt's beams or samples."""
        if repeats == 1:
            return self
        return replace(
            self,
            key_mask=self.key_mask.repeat_interleave(repeats, 0),
            acts_from=[column for column in self.acts_from for _ in range(repeats)],
            user_turn_known=[known for known in self.user_turn_known for _ in range(repeats)],
            routes=[route for route in self.routes for _ in range(repeats)],
            blocks=[group.repeated(repeats) for group in self.blocks],
            repeats=repeats,
            tokens=self.tokens.repeat_interleave(repeats, 0),
            states=None,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptBatch:
        """Return itself: copies of a cache share the route, which does not change once decided."""
        return self

    @property
    def outcome(self) -> Outcome:
        """The routes, in a list that they come into once decided; whoever has it holds no states and no blocks."""
        return self.routes, self.repeats

    def check_rows(self, rows: int) -> None:
        """Refuse a call whose rows are not this batch's."""
        if rows != len(self.acts_from):
            raise RoutingError(
                f"a cache was routed for {len(self.acts_from)} rows and now has {rows}: start from the prompt again"
            )

    def collect(self, hidden: Tensor, past: int, pooling: Pooling | None) -> PooledStates | None:
        """Add the states ``hidden`` (B, T, d) of columns from ``past`` on; return the means when all are there.

        Args:
            hidden: states of the key layer.
            past: the first column of ``hidden``.
            pooling: the weights of tokens; those in force when the route is decided.
        """
        new = hidden[:, : self.length - past].detach()
        self.states = new if self.states is None else torch.cat([self.states.to(new), new], 1)
        if past + hidden.shape[1] < self.length:
            return None
        count = len(self.key_mask)
        equal = self.key_mask.float().expand(1 if pooling is None else pooling.pools, *self.key_mask.shape)
        weights, texts = [equal[:, row] for row in range(count)], [""] * count
        rows = list(range(count))
        for row, (ids, columns, span) in self.key_rows.items():
            weights[row] = self.reader.weights(ids, span, columns, self.length, pooling)
            texts[row] = self.reader.text(ids, span)
            for segment in self.reader.segments(ids, span):
                weights.append(self.reader.weights(ids, segment, columns, self.length, pooling))
                texts.append(self.reader.text(ids, segment))
                rows.append(row)
        means = weighted_means(self.states, torch.stack(weights, 1)[:, :, self.first :], rows)
        return PooledStates(means, texts, rows, count)

    def has_run(self, row: int, columns: Tensor, tokens: Tensor) -> bool:
        """Return whether the states of one row are known at all columns of a mask, with these tokens there."""
        if self.states is None or row >= len(self.states):
            return False
        at = torch.nonzero(columns).flatten()
        if not bool(((at >= self.first) & (at < self.first + self.states.shape[1])).all()):
            return False
        return torch.equal(self.tokens[row, at], tokens[at])  # a cache may have been cut and filled by others

    def begins(self, ids: Sequence[Sequence[int]]) -> bool:
        """Return whether the tokens (B, L) of a call begin with this batch's, as far as these are known."""
        given = torch.tensor(ids)[:, : self.length]
        known = self.tokens[:, : given.shape[1]]
        return bool(((known == given) | (known < 0)).all())

    def set_routes(self, owners: list[int], routes: list[Route], bank: BlockBank) -> None:
        """Fix the routes and gather the blocks; rows without any token to pool over have no route.

        Args:
            owners: per row the number of the block that answers; -1: none.
            routes: per row its route.
            bank: the blocks.
        """
        spoken = self.key_mask.any(1).tolist()
        self.routes += [
            replace(route, boundary=self.boundary, user_turn_known=known)
            if has_words
            else Route(None, None, route.threshold, None, "no prompt", self.boundary, known)
            for route, has_words, known in zip(routes, spoken, self.user_turn_known, strict=True)
        ]
        owners = [owner if has_words else -1 for owner, has_words in zip(owners, spoken, strict=True)]
        self.blocks = bank.gather(owners, self.acts_from)
        self.decided = True
