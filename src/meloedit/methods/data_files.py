"""Files that methods read beside the edits: texts, questions with answers, training edits. All are read here.

The rows of a file are the lines of a ``.txt``; of others they are JSON, one value on each line or one list of them.
It may be gzipped. What cannot be read or used is a MeloEditError that names the file, and of a row its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import MeloEditError
from ..rows import open_utf8, plain_rows, rows_of

TEXTS = ("text", "prompt", "question")
"""Fields of a row that hold a text: the first that it has counts."""
PROMPTS, ANSWERS = ("prompt", "question", "text"), ("target", "answer", "answers")
"""Those of a row that asks something, likewise."""
REPHRASINGS = ("rephrase_prompt", "rephrases", "variants")
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


def read_texts(path: str) -> list[str]:
    """Return the texts of a file: rows are texts, or have one of ``TEXTS``; empty ones are left out.

    Raises:
        MeloEditError: if the file cannot be read, a row has no text, or there is none.
    """
    texts = [text for where, row in _rows(path) if (text := _text_of(row, where)).strip()]
    if not texts:
        raise MeloEditError(f"{path}: no text in it")
    return texts


def read_questions(path: str, count: int) -> list[tuple[str, str | None]]:
    """Return the first questions of a file, each with its answer if it has one.

    Rows are questions, or have one of ``PROMPTS`` and may have one of ``ANSWERS``; of several answers the first counts.

    Raises:
        MeloEditError: if the file cannot be read, a row is none of these, or there is none.
    """
    questions = list(islice((_question(row, where) for where, row in _rows(path)), count))
    if not questions:
        raise MeloEditError(f"{path}: no question in it")
    return questions


def read_training_edits(path: str, count: int) -> list[TrainingEdit]:
    """Return a file's first training edits: this package's, EasyEdit's flat ones, MEND's, or CounterFact's of ROME.

    Raises:
        MeloEditError: if the file cannot be read, a row is none of these, or there is none.
    """
    made = (_training_edit(row, where) for where, row in _rows(path))
    edits = list(islice((edit for edit in made if edit is not None), count))
    if not edits:
        raise MeloEditError(f"{path}: no training edit in it")
    return edits


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a file, each with the words for where it stands."""
    check_no_input(path)
    plain = Path(path.removesuffix(".gz")).suffix.lower() == ".txt"
    with open_utf8(path, path) as stream:
        yield from plain_rows(stream, path) if plain else rows_of(stream, path)


def check_no_input(path: str) -> None:
    """Raise a MeloEditError if a path is standard input (``-``)."""
    if path == "-":
        raise MeloEditError("training data come from a file, not from standard input: they are read more than once")


def _first(row: Any, names: tuple[str, ...]) -> Any:
    """Return the first of some fields that a row has; ``None`` without any."""
    values = row if isinstance(row, dict) else {}
    return next((values[name] for name in names if values.get(name) is not None), None)


def _text_of(row: Any, where: str) -> str:
    text = row if isinstance(row, str) else _first(row, TEXTS)
    if not isinstance(text, str):
        raise MeloEditError(f"{where}: expected a text, or an object with {' or '.join(TEXTS)}")
    return text


def _question(row: Any, where: str) -> tuple[str, str | None]:
    prompt, answer = (row, None) if isinstance(row, str) else (_first(row, PROMPTS), _first(row, ANSWERS))
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(answer, str | None):
        names = f"{' or '.join(PROMPTS)}, and at most a text as {' or '.join(ANSWERS)}"
        raise MeloEditError(f"{where}: expected a text as {names}")
    return prompt, answer


def _training_edit(row: Any, where: str) -> TrainingEdit | None:
    """Return a row's training edit; ``None`` for one without a target, as a few of MEND's."""
    values = row if isinstance(row, dict) else {}
    if isinstance(rewrite := values.get("requested_rewrite"), dict):
        template, subject = _text(rewrite, "prompt", where), _text(rewrite, "subject", where)
        target, true = (
            _text(_inner(rewrite, name), "str", where, f"{name}.") for name in ("target_new", "target_true")
        )
        near = tuple((prompt, true) for prompt in _texts(values.get("neighborhood_prompts")))
        return TrainingEdit(template.replace("{}", subject), target, _texts(values.get("paraphrase_prompts")), near)
    if "src" in values:
        if values.get("alt") == "":
            return None
        pairs = _pairs(values.get("loc"), values.get("loc_ans"))
        near = tuple((prompt.removeprefix(LEAD_IN), answer) for prompt, answer in pairs)
        rephrasings = _texts(values.get("rephrase"))
        return TrainingEdit(_text(values, "src", where), _text(values, "alt", where), rephrasings, near)
    target = "target_new" if "target_new" in values else "target"
    near = _pairs(values.get("locality_prompt"), values.get("locality_ground_truth"))
    rephrasings = _texts(_first(values, REPHRASINGS))
    return TrainingEdit(_text(values, "prompt", where), _text(values, target, where), rephrasings, near)


def _inner(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def _text(values: Mapping[str, Any], name: str, where: str, outer: str = "") -> str:
    value = values.get(name)
    if not _is_text(value):
        raise MeloEditError(f"{where}: expected a training edit with {SHAPES}; {outer}{name} is missing or no text")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    """Return the non-empty texts of a field: a text, or a list of them."""
    return tuple(filter(_is_text, _listed(value)))


def _pairs(prompts: Any, answers: Any) -> tuple[tuple[str, str], ...]:
    """Return the pairs of two fields, each a text or a list of them; a prompt without an answer is left out."""
    pairs = zip(_listed(prompts), _listed(answers), strict=False)
    return tuple(pair for pair in pairs if all(map(_is_text, pair)))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
