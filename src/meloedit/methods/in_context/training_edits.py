"""Training edits, from which demonstrations are made: an edit with other wordings, and near prompts with answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MeloEditError
from ...readers import json_rows
from ..data_files import open_data

LEAD_IN = "nq question: "
"""What MEND's files write before a question of NQ."""
SHAPES = "prompt and target; prompt and target_new (EasyEdit); src and alt (MEND); requested_rewrite (ROME)"


@dataclass(frozen=True)
class TrainingEdit:
    """A training edit.

    Attributes:
        prompt: what is asked.
        target: what the edit makes the answer.
        rephrasings: other wordings of the prompt.
        near: prompts that the edit does not concern, each with its answer.
    """

    prompt: str
    target: str
    rephrasings: tuple[str, ...] = ()
    near: tuple[tuple[str, str], ...] = ()


def read_training_edits(path: str) -> list[TrainingEdit]:
    """Read training edits from JSON rows: this package's, EasyEdit's flat ones, MEND's, or CounterFact's of ROME.

    Raises:
        MeloEditError: naming file and line, if the file cannot be read, a row is none of these, or there is none.
    """
    name = Path(path).name
    with open_data(path, name) as stream:
        edits = [edit for where, row in json_rows(stream, name) if (edit := _edit(row, where)).target]
    if not edits:
        raise MeloEditError(f"{name}: no training edit in it")
    return edits


def _edit(row: Any, where: str) -> TrainingEdit:
    values = row if isinstance(row, dict) else {}
    if isinstance(rewrite := values.get("requested_rewrite"), dict):
        template, subject = _text(rewrite, "prompt", where), _text(rewrite, "subject", where)
        target, true = (_text(rewrite.get(field) or {}, "str", where) for field in ("target_new", "target_true"))
        near = tuple((prompt, true) for prompt in _texts(values.get("neighborhood_prompts")))
        return TrainingEdit(template.replace("{}", subject), target, _texts(values.get("paraphrase_prompts")), near)
    if "src" in values:
        near = tuple(
            (prompt.removeprefix(LEAD_IN), answer)
            for prompt, answer in zip(_texts(values.get("loc")), _texts(values.get("loc_ans")), strict=False)
        )
        # A few of MEND's rows have no target: they are left out.
        return TrainingEdit(_text(values, "src", where), str(values.get("alt", "")), _texts(values["rephrase"]), near)
    target = "target_new" if "target_new" in values else "target"
    rephrasings = _texts(values.get("rephrase_prompt", values.get("rephrases")))
    prompts, answers = _texts(values.get("locality_prompt")), _texts(values.get("locality_ground_truth"))
    near = tuple(zip(prompts, answers, strict=False))
    return TrainingEdit(_text(values, "prompt", where), _text(values, target, where), rephrasings, near)


def _text(values: Mapping[str, Any], field: str, where: str) -> str:
    value = values.get(field) if isinstance(values, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise MeloEditError(f"{where}: expected a training edit with {SHAPES}; {field} is missing or no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """Return the non-empty texts of a field: a text, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for text in values if isinstance(text, str) and text.strip())
