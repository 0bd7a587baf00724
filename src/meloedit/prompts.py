"""What a call on the edited model is about: where its prompt lies, which words make the key, and the route it got."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .blocks import BlockBank, RowBlocks
from .chat import user_words
from .errors import RoutingError

if TYPE_CHECKING:
    from .backbone import Backbone

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


@dataclass
class PromptBatch:
    """The prompts of one call, and their routes once these are decided.

    Columns count over the whole padded sequence, cached part included.

    Attributes:
        length: columns of the prompt; the route is decided when this many have been seen.
        words: (B, length) true where the key is pooled.
        fold: rows per prompt: its beams or samples.
        sums: (B, d) the sum of the states at ``words`` in the columns run so far; kept, since a cache that the batch
            travels with may be the beginning of another prompt.
        acts_from: per row the column from which a block of reach ``answer`` acts: that of the last prompt token; 0
            where the answer is in a sequence of its own.
        boundary: how the end of the prompt was known.
        words_known: per row, whether ``words`` are the user's own.
    """

    length: int
    words: Tensor
    acts_from: list[int]
    boundary: Boundary
    words_known: list[bool]
    decided: bool = False
    fold: int = 1
    sums: Tensor | None = None
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
            sums=None,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptBatch:
        """Return itself: copies of a cache share the route, which does not change once decided."""
        return self

    def check_rows(self, rows: int) -> None:
        """Refuse a call whose rows are not this batch's."""
        if rows != len(self.acts_from):
            raise RoutingError(
                f"a cache was routed for {len(self.acts_from)} rows and now has {rows}: start from the prompt again"
            )

    def collect(self, hidden: Tensor, past: int) -> Tensor | None:
        """Pool the states ``hidden`` (B, T, d) of columns from ``past`` on; return the means (B, d) when complete."""
        words = self.words[:, past : past + hidden.shape[1]].to(hidden.device)
        used = hidden[:, : words.shape[1]].float()
        # where, not a product: states at padding may be anything, and inf times zero is not zero
        sums = torch.where(words[:, :, None], used, 0.0).sum(1)
        self.sums = sums if self.sums is None else self.sums.to(sums) + sums
        if past + hidden.shape[1] < self.length:
            return None
        return self.sums / self.words.sum(1, keepdim=True).clamp(min=1).to(hidden.device)

    def pooled(self, row: int, words: Tensor) -> bool:
        """Return whether ``sums`` holds the sum of one row's states at exactly these columns."""
        own = torch.nonzero(self.words[row]).tolist() if self.decided and row < len(self.words) else None
        return own == torch.nonzero(words).tolist()

    def settle(self, owners: list[int], routes: list[Route], bank: BlockBank) -> None:
        """Fix the routes: rows without any words to pool over have none."""
        spoken = self.words.any(1).tolist()
        owners = [owner if heard else -1 for owner, heard in zip(owners, spoken, strict=True)]
        self.routes = [
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
        last[row] = columns[-1]
        if backbone.key_at == "last":
            words[row] = torch.arange(length) == columns[-1]
    if backbone.key_at == "position":  # the released code's key, whatever stands there
        words[:] = torch.arange(length) == length - 1
    for row in torch.nonzero(words[:, :seen_from].any(1)).flatten().tolist():
        if earlier is not None and earlier.pooled(row, words[row, :seen_from]):
            continue
        # Where the words were all in the cache, what is new is all there is to go by.
        words[row, :seen_from] = False
        words[row] |= ~words[row].any() & real[row] & prompt[row] & (torch.arange(length) >= seen_from)
        known[row] = False
    sums = None
    if earlier is not None and earlier.sums is not None and words[:, :seen_from].any():
        sums = torch.where(words[:, :seen_from].any(1, keepdim=True).to(earlier.sums.device), earlier.sums, 0.0)
    if boundary == "assumed" and ends == rows:
        boundary = "template"
    return PromptBatch(length, words, last, boundary, known, sums=sums)


def describe_source(backbone: Backbone, ids: Tensor | None, real: Tensor) -> PromptBatch:
    """Find the words of a batch of prompts that are sequences of their own.

    Args:
        backbone: the model.
        ids: (B, L) token ids; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
    """
    rows, length = real.shape
    words, known = torch.zeros(rows, length, dtype=torch.bool), [ids is not None] * rows
    for row in range(rows):
        columns = torch.nonzero(real[row]).flatten()
        if len(columns):
            span = slice(0, None) if backbone.key_at == "words" else slice(-1, None)
            if ids is not None:
                found = backbone.key_words(ids[row, columns.to(ids.device)].tolist())
                span, known[row] = slice(found.start, found.stop), found.known
            words[row, columns[span]] = True
    if backbone.key_at == "position":
        words[:] = torch.arange(length) == length - 1
    return PromptBatch(length, words, [0] * rows, "given", known)
