"""What a call on the edited model is about: where its prompt lies, which words make the key, and the route it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import RoutingError
from ..keys.pooling import PooledStates, weighted_means
from ..results import Boundary, Route
from .bank import BlockBank
from .blocks import RowBlocks

Outcome = tuple[Sequence[Route], int]
"""The routes of a batch's rows, and how many rows each prompt has."""
NO_ROUTES: Outcome = ((), 1)


@dataclass
class PromptBatch:
    """The prompts of one call, and their routes once these are decided.

    Columns count over the whole padded sequence, cached part included.

    Attributes:
        length: columns of the prompt; the route is decided when this many have been seen.
        words: (B, length) true where the key is pooled.
        weights: (p, B + S, length) how much the state of each column weighs in the means that each key is made of.
        texts: (B + S) the words of the prompts and of their segments; empty where only embeddings are known.
        segment_rows: (S) the rows whose segments have keys of their own.
        fold: rows per prompt: its beams or samples.
        tokens: (B, length) the tokens of the prompts; -1 where there is none, or none is known.
        states: (B, T, d) the key layer's states in the columns run so far, from ``first`` on; kept, since a cache that
            the batch travels with may be the beginning of another prompt.
        first: see ``states``.
        acts_from: per row the column from which a block of reach ``answer`` acts: that of the last prompt token; 0
            where the answer is in a sequence of its own.
        boundary: how the end of the prompt was known.
        words_known: per row, whether ``words`` are the user's own.
    """

    length: int
    words: Tensor
    weights: Tensor
    acts_from: list[int]
    boundary: Boundary
    words_known: list[bool]
    texts: list[str] = field(default_factory=list)
    segment_rows: list[int] = field(default_factory=list)
    decided: bool = False
    fold: int = 1
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    states: Tensor | None = None
    first: int = 0
    routes: list[Route] = field(default_factory=list)
    blocks: list[RowBlocks] = field(default_factory=list)

    def repeated(self, fold: int) -> PromptBatch:
        """Return the routed batch with each row ``fold`` times: a prompt's beams or samples."""
        if fold == 1:
            return self
        return replace(
            self,
            words=self.words.repeat_interleave(fold, 0),
            acts_from=[column for column in self.acts_from for _ in range(fold)],
            words_known=[known for known in self.words_known for _ in range(fold)],
            routes=[route for route in self.routes for _ in range(fold)],
            blocks=[group.repeated(fold) for group in self.blocks],
            fold=fold,
            tokens=self.tokens.repeat_interleave(fold, 0),
            states=None,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptBatch:
        """Return itself: copies of a cache share the route, which does not change once decided."""
        return self

    @property
    def outcome(self) -> Outcome:
        """The routes, in a list that they come into once decided; who holds it does not hold states and blocks."""
        return self.routes, self.fold

    def check_rows(self, rows: int) -> None:
        """Refuse a call whose rows are not this batch's."""
        if rows != len(self.acts_from):
            raise RoutingError(
                f"a cache was routed for {len(self.acts_from)} rows and now has {rows}: start from the prompt again"
            )

    @property
    def rows(self) -> list[int]:
        """(B + S) the row that each key is of: of whole prompts, then of segments."""
        return [*range(len(self.words)), *self.segment_rows]

    def collect(self, hidden: Tensor, past: int) -> PooledStates | None:
        """Take in the states ``hidden`` (B, T, d) of columns from ``past`` on; return the means when all are there."""
        new = hidden[:, : self.length - past].detach()
        self.states = new if self.states is None else torch.cat([self.states.to(new), new], 1)
        if past + hidden.shape[1] < self.length:
            return None
        means = weighted_means(self.states, self.weights[:, :, self.first :], self.rows)
        return PooledStates(means, self.texts or [""] * len(self.rows), self.rows, len(self.words))

    def has_run(self, row: int, columns: Tensor, tokens: Tensor) -> bool:
        """Return whether the states of one row are known at all of some columns (a mask), where these tokens stand."""
        if self.states is None or row >= len(self.states):
            return False
        at = torch.nonzero(columns).flatten()
        if not bool(((at >= self.first) & (at < self.first + self.states.shape[1])).all()):
            return False
        return torch.equal(self.tokens[row, at], tokens[at])  # a cache may have been cut and filled by others

    def begins(self, ids: Sequence[Sequence[int]]) -> bool:
        """Return whether the tokens (B, L) of a call begin with this batch's, as far as these are known."""
        given = torch.tensor(ids)[:, : self.length]
        own = self.tokens[:, : given.shape[1]]
        return bool(((own == given) | (own < 0)).all())

    def set_routes(self, owners: list[int], routes: list[Route], bank: BlockBank) -> None:
        """Fix the routes: rows without any words to pool over have none."""
        spoken = self.words.any(1).tolist()
        owners = [owner if heard else -1 for owner, heard in zip(owners, spoken, strict=True)]
        self.routes += [
            Route(
                edit=route.edit if heard else None,
                distance=route.distance if heard else None,
                threshold=route.threshold,
                nearest=route.nearest if heard else None,
                reason=route.reason if heard else "no prompt",
                boundary=self.boundary,
                words_known=known,
            )
            for route, heard, known in zip(routes, spoken, self.words_known, strict=True)
        ]
        self.blocks = bank.gather(owners, self.acts_from)
        self.decided = True
