"""Describe the prompts of a call: where they are in its columns, and which tokens make their keys."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbones.chat import Span
from ..results import Boundary
from .key_reader import KeyReader
from .prompt_batch import KeyRow, PromptBatch


def describe(
    reader: KeyReader,
    ids: list[list[int]] | None,
    real: Tensor,
    prompt: Tensor,
    boundary: Boundary,
    seen_from: int = 0,
    earlier: PromptBatch | None = None,
) -> PromptBatch:
    """Describe prompts that their answers follow in one sequence.

    Args:
        reader: knows which tokens make a key.
        ids: per row the token ids of the last columns of ``real``; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
        prompt: (B, L) true for tokens of the prompt; it ends sooner where a chat template shows that an answer begins.
        boundary: how ``prompt`` was known; ``assumed`` becomes ``template`` where a template shows every row's end.
        seen_from: first column that this call will run (the columns before it are cached, their states are gone).
        earlier: the batch that the cached columns were run with.
    """
    rows, length = real.shape
    mask = torch.zeros(rows, length, dtype=torch.bool)  # where keys are pooled
    tokens = torch.full((rows, length), -1)
    last, known, ends = [length] * rows, [False] * rows, 0
    key_rows: dict[int, KeyRow] = {}
    for row in range(rows):
        columns = torch.nonzero(real[row] & prompt[row]).flatten().tolist()
        offset = length - len(ids[row]) if ids else 0
        columns = [column for column in columns if column >= offset]
        if not columns:
            continue
        if ids is None:
            mask[row, columns[1:] or columns] = True  # as of a raw prompt
        else:
            row_ids = [ids[row][column - offset] for column in columns]
            stop = reader.backbone.prompt_end(row_ids)
            ends += stop is not None
            row_ids, columns = row_ids[:stop], columns[:stop]
            span = reader.span(row_ids)
            mask[row, columns[span.start : span.stop]] = True
            known[row] = span.known
            if reader.reads_text:
                key_rows[row] = KeyRow(row_ids, columns, span)
            tokens[row, columns] = torch.tensor(row_ids)
        last[row] = columns[-1]
        if reader.key_tokens == "last":
            mask[row] = torch.arange(length) == columns[-1]
    if reader.key_tokens == "position":  # the released code's key, whatever stands there
        mask[:] = torch.arange(length) == length - 1
    unseen = real & prompt & (torch.arange(length) >= seen_from)
    for row in torch.nonzero(mask[:, :seen_from].any(1)).flatten().tolist():
        if earlier is None or not earlier.has_run(row, mask[row, :seen_from], tokens[row]):
            _forget_cached(row, mask, unseen, seen_from, key_rows)
            known[row] = False
    shown: Boundary = "template" if boundary == "assumed" and ends == rows else boundary
    batch = PromptBatch(reader, length, mask, key_rows, last, shown, known, tokens=tokens, first=seen_from)
    if earlier is not None and earlier.states is not None and mask[:, :seen_from].any():
        batch.first, batch.states = earlier.first, earlier.states[:, : seen_from - earlier.first]
    return batch


def _forget_cached(row: int, mask: Tensor, unseen: Tensor, seen_from: int, key_rows: dict[int, KeyRow]) -> None:
    """Take a row's key from the columns of this call alone: the states of the cached ones are gone."""
    mask[row, :seen_from] = False
    mask[row] |= ~mask[row].any() & unseen[row]  # where all the words lay in the cache, all that is new must do
    if row in key_rows:
        key_rows[row] = _cut(key_rows[row], mask[row])


def _cut(row: KeyRow, mask: Tensor) -> KeyRow:
    """Return a row with the part of its span that lies in the columns of a mask (L,)."""
    left = [i for i, column in enumerate(row.columns) if mask[column]]
    return row._replace(span=Span(left[0], left[-1] + 1, False) if left else Span(0, 0, False))


def describe_encoded(reader: KeyReader, ids: Tensor | None, real: Tensor) -> PromptBatch:
    """Describe prompts that are sequences of their own: an encoder's, or a classifier's.

    Args:
        reader: knows which tokens make a key.
        ids: (B, L) token ids; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
    """
    rows, length = real.shape
    mask, known = torch.zeros(rows, length, dtype=torch.bool), [ids is not None] * rows
    key_rows: dict[int, KeyRow] = {}
    for row in range(rows):
        columns = torch.nonzero(real[row]).flatten()
        if len(columns):
            where = slice(0, None) if reader.key_tokens == "words" else slice(-1, None)
            if ids is not None:
                row_ids = ids[row, columns.to(ids.device)].tolist()
                span = reader.span(row_ids)
                where, known[row] = slice(span.start, span.stop), span.known
                if reader.reads_text:
                    key_rows[row] = KeyRow(row_ids, columns.tolist(), span)
            mask[row, columns[where]] = True
    if reader.key_tokens == "position":
        mask[:] = torch.arange(length) == length - 1
    return PromptBatch(reader, length, mask, key_rows, [0] * rows, "given", known)
