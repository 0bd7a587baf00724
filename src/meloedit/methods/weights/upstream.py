"""Upstream examples, which a model could answer before it was edited: what is replayed against forgetting."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ...backbones.batch import Example
from ...edit import Edit
from ...engine.answering import generate_in_batches, greedy
from ...errors import EditError, MeloEditError
from ...keys.grammar import make_prompts
from ..data_files import read_questions

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.batch import Encoded

LENGTH = 16
"""Most tokens of an answer that the model itself gives."""
BATCH_SIZE = 32


def upstream_rows(backbone: Backbone, path: str, count: int) -> list[tuple[Encoded, list[int] | None]]:
    """Return upstream prompts with the tokens of their answers; ``None``: the model is to answer.

    Rows that are longer than the model reads, or of tokens that it cannot write, are left out.

    Args:
        backbone: the model.
        path: a file of prompts with or without answers; empty: the prompts of the built-in grammar.
        count: how many prompts are read.

    Raises:
        MeloEditError: if the file cannot be read, or no row of it can be used.
    """
    asked = read_questions(path, count) if path else [(prompt, None) for prompt in make_prompts(count)]
    rows: list[tuple[Encoded, list[int] | None]] = []
    for prompt, answer in asked:
        with suppress(EditError):
            encoded = backbone.encode(Edit(prompt, answer or "-").prompt)
            rows.append((encoded, None if answer is None else backbone.encode_target(answer, encoded)))
    if not rows:
        raise MeloEditError(f"{path or 'the built-in prompts'}: no row that this model can read and answer")
    return rows


def upstream_examples(backbone: Backbone, path: str, count: int) -> list[Example]:
    """Return upstream examples: ``upstream_rows``, those without an answer answered by the unedited model.

    Raises:
        MeloEditError: as ``upstream_rows``, or if the model answers none of them.
    """
    rows = upstream_rows(backbone, path, count)
    examples = [Example.of(encoded, answer) for encoded, answer in rows if answer is not None]
    open_rows = [encoded for encoded, answer in rows if answer is None]
    settings = greedy(backbone) | {"max_new_tokens": LENGTH}
    for part, answers in generate_in_batches(backbone, open_rows, BATCH_SIZE, settings):
        for i, (text, tokens) in zip(part, answers, strict=True):
            try:
                target = backbone.encode_target(text.strip(), open_rows[i])
            except EditError:  # an empty answer, say
                continue
            # An answer that was cut off does not end there.
            ended = backbone.documents or tokens < LENGTH
            examples.append(Example.of(open_rows[i], target if ended else target[:-1]))
    if not examples:
        raise MeloEditError(f"{path or 'the built-in prompts'}: the unedited model answers none of the rows")
    return examples
