"""What a call on the edited model is about: where its prompt lies, which words make the key, and the route it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..backbones.batch import weighted_means, weights_of
from ..backbones.chat import user_words
from ..errors import RoutingError
from ..keys.projection import Pooled
from .blocks import BlockBank, RowBlocks

if TYPE_CHECKING:
    from ..backbones import Backbone

Boundary = Literal["given", "labels", "template", "assumed"]
Reason = Literal["fired", "outside scope", "quiet", "no edits", "no prompt"]


@dataclass(frozen=True)
class Route:
    """What the index decided for one prompt.

    Attributes:
        edit: id of the edit that fires; ``None`` for the base model.
        distance: distance |u - v| of the prompt's key to the nearest edit's; ``None`` without edits or prompt.
        threshold: the distance below which an edit is in scope.
        nearest: id of the nearest edit, whether it fires or not.
        reason: why it fires or does not.
        boundary: how the end of the prompt was known.
        words_known: whether the key was pooled over the user's own words; else over the whole prompt.
    """

    edit: str | None
    distance: float | None
    threshold: float
    nearest: str | None
    reason: Reason
    boundary: Boundary = "given"
    words_known: bool = True


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

    def collect(self, hidden: Tensor, past: int) -> Pooled | None:
        """Take in the states ``hidden`` (B, T, d) of columns from ``past`` on; return the means when all are there."""
        new = hidden[:, : self.length - past].detach()
        self.states = new if self.states is None else torch.cat([self.states.to(new), new], 1)
        if past + hidden.shape[1] < self.length:
            return None
        means = weighted_means(self.states, self.weights[:, :, self.first :], self.rows)
        return Pooled(means, self.texts or [""] * len(self.rows), self.rows, len(self.words))

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

    def settle(self, owners: list[int], routes: list[Route], bank: BlockBank) -> None:
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


class _Segment(NamedTuple):
    """A sentence or line of a row: what the states of its columns weigh (p, L), and its words."""

    row: int
    weights: Tensor
    text: str


class _Parts:
    """The words of a batch's prompts and of their segments, as text, and how much the state of each column weighs."""

    def __init__(self, backbone: Backbone, length: int) -> None:
        self._backbone, self._length = backbone, length
        self._told: dict[int, tuple[list[int], list[int]]] = {}
        self._whole: dict[int, tuple[Tensor, str]] = {}
        self._segments: list[_Segment] = []

    def add(self, row: int, ids: list[int], words: tuple[int, int], columns: list[int]) -> None:
        """Take in a row's words: a span of its tokens ``ids``, which stand at ``columns``."""
        backbone = self._backbone
        if backbone.key_at != "words" or backbone.documents:
            return
        self._told[row] = ids, columns
        self._whole[row] = self._weights(ids, words, columns), backbone.said(ids, words)
        for span in backbone.segments(ids, words):
            self._segments.append(_Segment(row, self._weights(ids, span, columns), backbone.said(ids, span)))

    def _weights(self, ids: list[int], span: tuple[int, int], columns: list[int]) -> Tensor:
        own = weights_of(ids, span, self._backbone.pooling)
        made = torch.zeros(len(own), self._length)
        made[:, columns[span[0] : span[1]]] = own
        return made

    def only(self, row: int, words: Tensor) -> None:
        """Take a row's words at some columns (L) alone: the states of the others are gone."""
        if self._whole.pop(row, None) is not None:
            self._segments = [part for part in self._segments if part.row != row]
            ids, columns = self._told[row]
            left = [i for i, column in enumerate(columns) if words[column]]
            self.add(row, ids, (left[0], left[-1] + 1) if left else (0, 0), columns)

    def batch(self, words: Tensor, **told: Any) -> PromptBatch:
        """Return the batch of rows whose keys are pooled over ``words`` (B, L), all alike where no words are known."""
        pools = self._backbone.pooling.pools if self._backbone.pooling is not None else 1
        alike = words.float().expand(pools, *words.shape)
        weights = [self._whole[row][0] if row in self._whole else alike[:, row] for row in range(len(words))]
        return PromptBatch(
            length=self._length,
            words=words,
            weights=torch.stack([*weights, *(part.weights for part in self._segments)], 1),
            texts=[self._whole[row][1] if row in self._whole else "" for row in range(len(words))]
            + [part.text for part in self._segments],
            segment_rows=[part.row for part in self._segments],
            **told,
        )


def describe(
    backbone: Backbone,
    ids: list[list[int]] | None,
    real: Tensor,
    prompt: Tensor,
    boundary: Boundary,
    seen_from: int = 0,
    earlier: PromptBatch | None = None,
) -> PromptBatch:
    """Find words and last tokens of a batch of prompts.

    Args:
        backbone: the model.
        ids: per row the token ids of the last columns of ``real``; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
        prompt: (B, L) true for tokens of the prompt; it ends sooner where a chat template shows that an answer begins.
        boundary: how ``prompt`` was known; ``assumed`` becomes ``template`` where a template shows every row's end.
        seen_from: first column that this call will run (the columns before it are cached, their states are gone).
        earlier: the batch that the cached columns were run with.
    """
    rows, length = real.shape
    words = torch.zeros(rows, length, dtype=torch.bool)
    last, known, ends = [length] * rows, [False] * rows, 0
    parts, told = _Parts(backbone, length), torch.full((rows, length), -1)
    for row in range(rows):
        columns = torch.nonzero(real[row] & prompt[row]).flatten().tolist()
        offset = length - len(ids[row]) if ids else 0
        columns = [column for column in columns if column >= offset]
        if not columns:
            continue
        if ids is None:
            words[row, columns[1:] or columns] = True  # as of a raw prompt
        else:
            tokens = [ids[row][column - offset] for column in columns]
            turn = user_words(tokens, backbone.markers)
            stop = backbone.markers.prompt_end(tokens, turn.stop) if backbone.markers else None
            ends += stop is not None
            columns = columns[:stop]
            span = backbone.key_words(tokens[:stop])
            words[row, columns[span.start : span.stop]] = True
            known[row] = span.known
            parts.add(row, tokens[:stop], (span.start, span.stop), columns)
            told[row, columns] = torch.tensor(tokens[:stop])
        last[row] = columns[-1]
        if backbone.key_at == "last":
            words[row] = torch.arange(length) == columns[-1]
    if backbone.key_at == "position":  # the released code's key, whatever stands there
        words[:] = torch.arange(length) == length - 1
    for row in torch.nonzero(words[:, :seen_from].any(1)).flatten().tolist():
        if earlier is None or not earlier.has_run(row, words[row, :seen_from], told[row]):
            # Where the words were all in the cache, what is new is all there is to go by.
            words[row, :seen_from] = False
            words[row] |= ~words[row].any() & real[row] & prompt[row] & (torch.arange(length) >= seen_from)
            known[row] = False
            parts.only(row, words[row])
    if boundary == "assumed" and ends == rows:
        boundary = "template"
    made = parts.batch(words, acts_from=last, boundary=boundary, words_known=known, tokens=told, first=seen_from)
    if earlier is not None and earlier.states is not None and words[:, :seen_from].any():
        made.first, made.states = earlier.first, earlier.states[:, : seen_from - earlier.first]
    return made


def describe_source(backbone: Backbone, ids: Tensor | None, real: Tensor) -> PromptBatch:
    """Find the words of a batch of prompts that are sequences of their own.

    Args:
        backbone: the model.
        ids: (B, L) token ids; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
    """
    rows, length = real.shape
    words, known = torch.zeros(rows, length, dtype=torch.bool), [ids is not None] * rows
    parts = _Parts(backbone, length)
    for row in range(rows):
        columns = torch.nonzero(real[row]).flatten()
        if len(columns):
            span = slice(0, None) if backbone.key_at == "words" else slice(-1, None)
            if ids is not None:
                tokens = ids[row, columns.to(ids.device)].tolist()
                found = backbone.key_words(tokens)
                span, known[row] = slice(found.start, found.stop), found.known
                parts.add(row, tokens, (found.start, found.stop), columns.tolist())
            words[row, columns[span]] = True
    if backbone.key_at == "position":
        words[:] = torch.arange(length) == length - 1
    return parts.batch(words, acts_from=[0] * rows, boundary="given", words_known=known)
