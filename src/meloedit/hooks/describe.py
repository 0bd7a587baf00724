"""Describe the prompts of a call: which tokens are padding, which make the key, where the answer begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..backbones.chat import user_words
from ..keys.pooling import weights_of
from ..results import Boundary

if TYPE_CHECKING:
    from ..backbones import Backbone
from .prompt_batch import PromptBatch


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
        if backbone.key_tokens != "words" or backbone.documents:
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
        if backbone.key_tokens == "last":
            words[row] = torch.arange(length) == columns[-1]
    if backbone.key_tokens == "position":  # the released code's key, whatever stands there
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
            span = slice(0, None) if backbone.key_tokens == "words" else slice(-1, None)
            if ids is not None:
                tokens = ids[row, columns.to(ids.device)].tolist()
                found = backbone.key_words(tokens)
                span, known[row] = slice(found.start, found.stop), found.known
                parts.add(row, tokens, (found.start, found.stop), columns.tolist())
            words[row, columns[span]] = True
    if backbone.key_tokens == "position":
        words[:] = torch.arange(length) == length - 1
    return parts.batch(words, acts_from=[0] * rows, boundary="given", words_known=known)
