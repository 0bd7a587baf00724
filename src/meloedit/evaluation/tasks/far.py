"""Far prompts: questions of NQ-open and texts from the web, as prompts that no edit should answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...types import Prompt
from .data_files import DataFile
from .records import Record
from .task import FarPrompt, Question

UNRELATED = "unrelated"
"""The kind of far prompts whose file says that no edit concerns them."""


def far_units(
    files: Iterable[DataFile], from_edits: Iterable[Prompt], web_words: int | None, paper: bool
) -> list[tuple[FarPrompt, ...]]:
    """Return the far prompts of a task's files, all forms of a question in one unit.

    The two forms of an NQ question stay together, so that both are compared equally often. Under the protocol
    ``paper`` a question has the one form that the paper's T5 was trained on: with a "?" at the end.

    Args:
        files: the task's files, of any role.
        from_edits: far prompts that stand in rows of edits.
        web_words: how many words of a web text make the prompt; ``None``: all.
        paper: whether the protocol is ``paper``.
    """
    units: list[tuple[FarPrompt, ...]] = [(FarPrompt(prompt, "own"),) for prompt in from_edits]

    def question_forms(text: str) -> tuple[FarPrompt, ...]:
        if paper:
            return (FarPrompt(with_question_mark(text), "nq"),)
        return FarPrompt(text, "nq", len(units)), FarPrompt(_dressed(text), "nq dressed", len(units))

    def web_prompt(text: str) -> tuple[FarPrompt, ...]:
        return (FarPrompt(text if web_words is None else " ".join(text.split()[:web_words]), "web"),)

    readers: dict[str, Callable[[Record], tuple[FarPrompt, ...]]] = {
        "question": lambda record: question_forms(record.text("question")),
        "text": lambda record: web_prompt(record.text("text")),
        "prompt": lambda record: (FarPrompt(record.prompt("prompt"), UNRELATED),),
    }
    sources = [file for file in files if file.shape.role in ("far", "web")]
    for field, make in readers.items():
        for file in sources:
            if file.shape.needs[0] == field:
                for record in file.rows:
                    units.append(make(record))
    return units


def read_nq(file: DataFile) -> list[Question]:
    """Return NQ-open's questions with their answers, each with the "?" that a T5 of the paper's kind is trained on.

    Raises:
        EditError: naming file, line and field, if a row is no question with answers.
    """
    return [
        Question(with_question_mark(record.text("question")), record.nonempty_texts("answer")) for record in file.rows
    ]


def with_question_mark(question: str) -> str:
    """Return a question with one "?" at its end."""
    return question.rstrip("?").rstrip() + "?"


def _dressed(question: str) -> str:
    """Return a question with a capital letter and a "?"."""
    question = question.strip()
    return question[0].upper() + with_question_mark(question[1:])
