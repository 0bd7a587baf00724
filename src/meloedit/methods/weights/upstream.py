"""Upstream examples, which a model could answer before it was edited: what is replayed against forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backbones.batch import Example
from ...edit import Edit
from ...engine.answering import generate_in_batches, greedy
from ...errors import EditError, MeloEditError
from ...keys.grammar import make_prompts
from ...readers import check_line, json_rows
from ..data_files import open_data

if TYPE_CHECKING:
    from ...backbones import Backbone

LENGTH = 16
"""Most tokens of an answer that the model itself gives."""
BATCH_SIZE = 32
PROMPTS, ANSWERS = ("prompt", "question", "text"), ("target", "answer", "answers")
"""Fields of a row: the first that it has is taken."""


def upstream_examples(backbone: Backbone, path: str, count: int) -> list[Example]:
    """Return upstream examples.

    Args:
        backbone: the unedited model; it answers the prompts that come without an answer.
        path: a file of prompts with or without answers; empty: the prompts of the built-in grammar.
        count: how many prompts are read.

    Raises:
        MeloEditError: if the file cannot be read, or no row of it can be used.
    """
    asked = read_upstream(path, count) if path else [(prompt, None) for prompt in make_prompts(count)]
    examples, open_rows = [], []
    for prompt, answer in asked:
        try:
            encoded = backbone.encode(Edit(prompt, answer or "-").prompt)
            if answer is None:
                open_rows.append(encoded)
            else:
                examples.append(Example.of(encoded, backbone.encode_target(answer, encoded)))
        except EditError:  # longer than the model reads, or of tokens that it cannot write
            continue
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
        raise MeloEditError(f"{path or 'the built-in prompts'}: no row that this model can read and answer")
    return examples


def read_upstream(path: str, count: int) -> list[tuple[str, str | None]]:
    """Return the first prompts of a file with their answers, if it has them.

    The lines of a ``.txt`` are prompts; JSON rows have one of ``PROMPTS`` and may have one of ``ANSWERS``.

    Raises:
        MeloEditError: naming file and line, if the file cannot be read or a row has no prompt.
    """
    name = Path(path).name
    with open_data(path, name) as stream:
        plain = ".txt" in Path(path).suffixes
        rows = _lines(stream, name) if plain else (_pair(row, where) for where, row in json_rows(stream, name))
        pairs = [pair for pair, _ in zip(rows, range(count), strict=False)]
    if not pairs:
        raise MeloEditError(f"{name}: no prompt in it to replay")
    return pairs


def _lines(stream: Any, name: str) -> Iterator[tuple[str, str | None]]:
    for number, line in enumerate(stream, 1):
        if text := check_line(line, f"{name}, line {number}").strip():
            yield text, None


def _pair(row: Any, where: str) -> tuple[str, str | None]:
    values = row if isinstance(row, dict) else {}
    prompt = next((values[field] for field in PROMPTS if field in values), None)
    answer = next((values[field] for field in ANSWERS if field in values), None)
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(answer, str | None):
        raise MeloEditError(f"{where}: expected a text as {' or '.join(PROMPTS)}, and at most an answer, to replay")
    return prompt, answer
