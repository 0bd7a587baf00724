"""Make the ``PromptBatch`` of a call: find its prompts among the columns, and the tokens that make their keys."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbones.chat import Span
from ..results import Boundary
from .key_reader import KeyReader
from .prompt_batch import AnswerRow, KeyRow, PromptBatch


def describe(
    reader: KeyReader,
    ids: list[list[int]] | None,
    real: Tensor,
    prompt: Tensor,
    boundary: Boundary,
    seen_from: int = 0,
    earlier: PromptBatch | None = None,
    heard: Tensor | None = None,
) -> PromptBatch:
    """Return the batch of a causal model's call, where prompt and answer are one sequence.

    Args:
        reader: knows which tokens make a key.
        ids: per row the token ids of the last columns of ``real``; ``None`` if the call has embeddings.
        real: (B, L) true for tokens that are not padding.
        prompt: (B, L) true for columns that may be prompt. Where that is assumed, a chat template may show that the
            prompt ends sooner. Where it is given, all of it is prompt: what stands behind the template's header is an
            answer that the caller has begun.
        boundary: how ``prompt`` is known; ``assumed`` becomes ``template`` if a template shows the end in every row.
        seen_from: the first column that this call runs; the columns before it are cached.
        earlier: the batch with which the cached columns ran; it may have their states.
        heard: (B, seen_from) the tokens of the cached columns, -1 where they are not known; ``None``: unknown.
    """
    rows, length = real.shape
    mask = torch.zeros(rows, length, dtype=torch.bool)  # where keys are pooled
    tokens = torch.full((rows, length), -1)
    last, whole, known, ends = [length] * rows, [length] * rows, [False] * rows, 0
    key_rows: dict[int, KeyRow] = {}
    answers: dict[int, AnswerRow] = {}
    after_tools: set[int] = set()
    bare: set[int] = set()
    for row in range(rows):
        columns = torch.nonzero(real[row] & prompt[row]).flatten().tolist()
        offset = length - len(ids[row]) if ids else 0
        columns = [column for column in columns if column >= offset]
        if not columns:
            continue
        whole[row] = columns[-1]
        if ids is None:
            mask[row, columns[1:] or columns] = True  # all but the first token, as for a raw prompt
        else:
            row_ids = [ids[row][column - offset] for column in columns]
            stop = reader.backbone.prompt_end(row_ids)
            ends += stop is not None
            after_tools |= {row} if reader.after_tools(row_ids) else set()
            begins = {} if boundary == "assumed" else _begun(reader, row, row_ids, columns, stop)
            answers |= begins
            bare |= {row} if _bare(reader, row_ids, stop, begins.get(row)) else set()
            row_ids, columns = row_ids[:stop], columns[:stop]
            span = reader.span(row_ids)
            mask[row, columns[span.start : span.stop]] = True
            known[row] = span.known
            if reader.reads_text:
                before = _before(real[row], heard[row]) if heard is not None and offset else []
                key_rows[row] = KeyRow(row_ids, columns, span, before)
            tokens[row, columns] = torch.tensor(row_ids)
        last[row] = columns[-1]
        if reader.key_tokens == "last":
            mask[row] = torch.arange(length) == columns[-1]
    if reader.key_tokens == "position":  # the released code takes the last column, even if it is padding
        mask[:] = torch.arange(length) == length - 1
    unseen = real & prompt & (torch.arange(length) >= seen_from)
    for row in torch.nonzero(mask[:, :seen_from].any(1)).flatten().tolist():
        if earlier is None or not earlier.has_run(row, mask[row, :seen_from], tokens[row]):
            _forget_cached(row, mask, unseen, seen_from, key_rows)
            known[row] = False
    shown: Boundary = "template" if boundary == "assumed" and ends == rows else boundary
    # Where it is assumed, what stands behind the template's header may be an answer that is scored.
    acts_from = last if boundary == "assumed" else whole
    batch = PromptBatch(reader, length, mask, key_rows, acts_from, shown, known, tokens=tokens, first=seen_from)
    batch.answers, batch.after_tools, batch.bare = answers, frozenset(after_tools), frozenset(bare)
    if earlier is not None and earlier.states is not None and mask[:, :seen_from].any():
        batch.first, batch.states = earlier.first, earlier.states[:, : seen_from - earlier.first]
    return batch


def _begun(reader: KeyReader, row: int, ids: list[int], columns: list[int], stop: int | None) -> dict[int, AnswerRow]:
    """Return, by its row, the answer that a caller has begun behind the template's end ``stop``; nothing if none is."""
    begun = None if stop is None else reader.begun(ids)
    return {} if stop is None or begun is None else {row: AnswerRow(begun, columns[stop - 1 :])}


def _bare(reader: KeyReader, ids: list[int], stop: int | None, begun: AnswerRow | None) -> bool:
    """Return whether an answer begins without a blank: behind a template's end, and as the texts before it say."""
    if begun is not None:
        return reader.backbone.begins_bare(begun.begun.ids, begun=True)
    return stop is not None or reader.backbone.begins_bare(ids, begun=False)


def _before(real: Tensor, heard: Tensor) -> list[int]:
    """Return the real tokens of a row's cached columns; nothing if one is not known."""
    tokens = heard[real[: len(heard)]].tolist()
    return [] if -1 in tokens else tokens


def _forget_cached(row: int, mask: Tensor, unseen: Tensor, seen_from: int, key_rows: dict[int, KeyRow]) -> None:
    """Restrict a row's key to the columns of this call, because the states of the cached ones are not there."""
    mask[row, :seen_from] = False
    mask[row] |= ~mask[row].any() & unseen[row]  # if the whole span was cached, pool over all new prompt columns
    if row in key_rows:
        key_rows[row] = _cut(key_rows[row], mask[row])


def _cut(row: KeyRow, mask: Tensor) -> KeyRow:
    """Return a row with its span reduced to the columns of a mask (L,)."""
    left = [i for i, column in enumerate(row.columns) if mask[column]]
    return row._replace(span=Span(left[0], left[-1] + 1, False) if left else Span(0, 0, False))


def describe_encoded(reader: KeyReader, ids: Tensor | None, real: Tensor) -> PromptBatch:
    """Return the batch of an encoder's or a classifier's call, where the prompt is the whole sequence.

    Args:
        reader: knows which tokens make a key.
        ids: (B, L) token ids; ``None`` if the call has embeddings.
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
