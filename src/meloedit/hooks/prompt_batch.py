"""PromptBatch: the prompts of one call of the model: their columns, the tokens that make their keys, their routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..backbones.chat import Span
from ..errors import RoutingError
from ..keys.pooling import PooledStates, Pooling, weighted_means
from ..results import Boundary, Route
from ..types import Asked, Begun
from .bank import BlockBank
from .blocks import RowBlocks

if TYPE_CHECKING:
    from .key_reader import KeyReader

Outcome = tuple[Sequence[Route], int]
"""The routes of a batch's rows, and the number of rows per prompt."""
NO_ROUTES: Outcome = ((), 1)
"""The outcome before the first call."""


class KeyRow(NamedTuple):
    """A row whose text is known, so that its key can use the text beside the states.

    Attributes:
        ids: the prompt's tokens.
        columns: the column of each token.
        span: the tokens that the key is pooled over.
        before: tokens of a cache that stand before ``ids``: they are read, but make no key.
    """

    ids: list[int]
    columns: list[int]
    span: Span
    before: Sequence[int] = ()


class AnswerRow(NamedTuple):
    """A row whose answer the caller has begun.

    Attributes:
        begun: its tokens.
        columns: the column of the last token before them, and the column of each.
    """

    begun: Begun
    columns: list[int]


class Decider(Protocol):
    """Decides which blocks answer; the engine's policy is one."""

    @property
    def pooling(self) -> Pooling | None:
        """The weights of tokens in the means that make keys; ``None``: all weigh the same."""

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the number of the block that answers (-1: none), and its route."""

    def target(self, edit_id: str) -> str:
        """Return the target of an edit that answers."""

    def first_place(self, edit_id: str, bare: bool) -> int:
        """Return the answer position of the first token of an edit's target, which begins with a blank or bare."""

    def keep_up(self) -> None:
        """Bring the blocks in step with the store, where a change was stopped."""


@dataclass
class PromptBatch:
    """The prompts of one call, and their routes once these are decided.

    Columns are counted over the whole padded sequence, cached columns included.

    Attributes:
        reader: knows which tokens make a key.
        length: number of columns of the prompts; the routes are decided when all of them have run.
        key_mask: (B, length) true where the key is pooled.
        key_rows: by row number, the rows whose text is known.
        acts_from: per row the column from which a block of reach ``answer`` acts: that of the last prompt token; 0
            if the answer is a separate sequence.
        boundary: how the end of the prompt was known.
        user_turn_known: per row, whether ``key_mask`` covers only the user's text; if not, it covers the whole prompt.
        decided: whether the routes are decided.
        repeats: rows per prompt: its beams or samples.
        tokens: (B, length) the tokens of the prompts; -1 for padding and for unknown tokens.
        states: (B, T, d) the key layer's states of the columns run so far, from column ``first`` on. They stay after
            the decision: another prompt may continue from the same cache, and its key needs them.
        first: the first column of ``states``.
        routes: the routes of the rows, once decided.
        blocks: the gathered blocks of the rows, once decided.
        after_tools: the rows in which a tool's result stands behind the question.
        answers: by row number, the answers that the caller has begun.
        spelled: by row number, for an answer that is begun in a way that no block was trained for: the column of its
            last token, and the tokens of what is left of the target.
        bare: the rows whose answer begins without a blank.
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
    after_tools: frozenset[int] = frozenset()
    answers: dict[int, AnswerRow] = field(default_factory=dict)
    spelled: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    bare: frozenset[int] = frozenset()

    def repeated(self, repeats: int) -> PromptBatch:
        """Return the routed batch with each row ``repeats`` times, for beams or samples."""
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
        """Return the same object: copies of a cache share their routes, which never change once decided."""
        return self

    @property
    def outcome(self) -> Outcome:
        """The routes, in a list that fills once they are decided; it keeps no states and no blocks in memory."""
        return self.routes, self.repeats

    def check_rows(self, rows: int) -> None:
        """Refuse a call with another number of rows than this batch.

        Raises:
            RoutingError: if the numbers differ.
        """
        if rows != len(self.acts_from):
            raise RoutingError(
                f"a cache was routed for {len(self.acts_from)} rows and now has {rows}: start from the prompt again"
            )

    def collect(self, hidden: Tensor, past: int, pooling: Pooling | None) -> PooledStates | None:
        """Add the key layer's states of new columns; return the pooled states once all columns have run.

        Args:
            hidden: (B, T, d) the states.
            past: the first column of ``hidden``.
            pooling: the weights of tokens in the pooled states.

        Returns:
            The pooled states of the prompts and their segments; ``None`` while columns of the prompts are missing.
        """
        new = hidden[:, : self.length - past].detach()
        self.states = new if self.states is None else torch.cat([self.states.to(new), new], 1)
        if past + hidden.shape[1] < self.length:
            return None
        count = len(self.key_mask)
        equal = self.key_mask.float().expand(1 if pooling is None else pooling.pools, *self.key_mask.shape)
        weights, asked = [equal[:, row] for row in range(count)], [Asked("")] * count
        rows = list(range(count))
        for row, (ids, columns, span, before) in self.key_rows.items():
            weights[row] = self.reader.weights(ids, span, columns, self.length, pooling)
            asked[row] = self.reader.asked(ids, span, before)
            for segment in self.reader.segments(ids, span):
                weights.append(self.reader.weights(ids, segment, columns, self.length, pooling))
                asked.append(self.reader.segment(ids, segment))
                rows.append(row)
        means = weighted_means(self.states, torch.stack(weights, 1)[:, :, self.first :], rows)
        begun = {row: answer.begun for row, answer in self.answers.items()}
        return PooledStates(means, asked, rows, count, self.after_tools, begun)

    def has_run(self, row: int, columns: Tensor, tokens: Tensor) -> bool:
        """Return whether a row's states are there for all columns of a mask, and belong to these tokens.

        Args:
            row: the row.
            columns: (T,) the mask.
            tokens: (L,) the tokens that should be there, L >= T.
        """
        if self.states is None or row >= len(self.states):
            return False
        at = torch.nonzero(columns).flatten()
        if not bool(((at >= self.first) & (at < self.first + self.states.shape[1])).all()):
            return False
        return torch.equal(self.tokens[row, at], tokens[at])  # the cache may have been cut, and refilled

    def begins(self, ids: Sequence[Sequence[int]]) -> bool:
        """Return whether a call's tokens (B, L) begin with this batch's tokens, as far as these are known."""
        given = torch.tensor(ids)[:, : self.length]
        known = self.tokens[:, : given.shape[1]]
        return bool(((known == given) | (known < 0)).all())

    def set_routes(self, owners: list[int], routes: list[Route], bank: BlockBank, decider: Decider) -> None:
        """Store the routes and gather the blocks; a row without tokens to pool over gets no block.

        Args:
            owners: per row the number of the block that answers; -1: none.
            routes: per row its route.
            bank: the blocks.
            decider: knows the edits' targets.
        """
        has_prompt = self.key_mask.any(1).tolist()
        routes = [
            replace(route, boundary=self.boundary, user_turn_known=known)
            for route, known in zip(routes, self.user_turn_known, strict=True)
        ]
        self.routes += [
            route if prompted else route.without_prompt() for route, prompted in zip(routes, has_prompt, strict=True)
        ]
        owners = [owner if prompted else -1 for owner, prompted in zip(owners, has_prompt, strict=True)]
        starts, answers = list(self.acts_from), list(self.acts_from)
        for row, route in enumerate(routes):
            if owners[row] < 0 or (edit_id := route.edit) is None:
                continue
            if (answer := self.answers.get(row)) is None:
                answers[row] -= decider.first_place(edit_id, row in self.bare)
                continue
            found = self.reader.backbone.place_in(decider.target(edit_id), answer.begun)
            # where the caller's beginning ends with the target's, that is where the answer begins
            starts[row] = answer.columns[-1 - found.given]
            answers[row] = answer.columns[-1] - found.place
            answers[row] -= decider.first_place(edit_id, found.given > 0 or row in self.bare)
            if found.rest:
                self.spelled[row] = answer.columns[-1], found.rest
        self.blocks = bank.gather(owners, starts, answers)
        self.decided = True

    def spell(self, output: Any, past: int, columns: int) -> None:
        """Let the rest of a target come where a caller began it in a way that no block was trained for.

        Args:
            output: what the model returned; its logits are written in place.
            past: how many columns come before the call's first.
            columns: how many columns the call has.
        """
        if isinstance(output, tuple):
            logits = next((part for part in output if isinstance(part, Tensor) and part.dim() == 3), None)
        else:
            logits = getattr(output, "logits", None)
        if logits is None:
            return
        first = past + columns - logits.shape[1]
        for row, (last, rest) in self.spelled.items():
            for at, token in enumerate(rest, last - first):
                if 0 <= at < logits.shape[1]:
                    with torch.no_grad():
                        logits[row, at] = -torch.inf
                        logits[row, at, token] = 0.0
