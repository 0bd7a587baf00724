"""Input of the ablations: facts and questions from files, paper-mode settings and lists of numbers from options.

Nothing here imports torch: loading a model settles how torch's threads wait, which must come before that import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...edit import Edit, check_prompt, prompt_key
from ...errors import EditError, MeloEditError, ModelError
from ...files import file_sha256
from ...rows import json_rows, open_utf8
from ...settings import read_config
from ...text import counted
from ...types import Prompt

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...paper.config import PaperConfig


@dataclass(frozen=True)
class Fact:
    """An edit and rephrasings of its prompt; a method trains on the edit alone, with its variants."""

    edit: Edit
    rephrases: tuple[Prompt, ...] = ()

    @property
    def phrasings(self) -> tuple[Prompt, ...]:
        """The prompt and then its rephrasings."""
        return (self.edit.prompt, *self.rephrases)

    @property
    def unseen(self) -> Prompt | None:
        """The first rephrasing that is not among the edit's prompts."""
        trained = {prompt_key(prompt) for prompt in self.edit.prompts}
        return next((prompt for prompt in self.rephrases if prompt_key(prompt) not in trained), None)


@dataclass(frozen=True)
class Facts:
    """The facts of a file.

    Attributes:
        name: the file's name without folders.
        sha256: the hash of its bytes.
        items: the facts, as many as were asked for.
    """

    name: str
    sha256: str
    items: tuple[Fact, ...]

    @property
    def edits(self) -> list[Edit]:
        """The edits, in the file's order."""
        return [fact.edit for fact in self.items]

    def named(self, backbone: Backbone) -> Facts:
        """Return the facts with targets as the model writes them: a classifier's label by its name."""
        return replace(self, items=tuple(replace(fact, edit=backbone.as_written(fact.edit)) for fact in self.items))

    def require_rephrases(self) -> None:
        """Check that at least one fact has an unseen rephrasing.

        Raises:
            EditError: if none has.
        """
        if not any(fact.unseen for fact in self.items):
            raise EditError(f"{self.name} has no rephrases: generality is measured on wordings that are never trained")


def read_facts(path: Path, count: int | None = None) -> Facts:
    """Read the first ``count`` facts of a JSONL file (``.gz`` too): ``prompt``, ``target`` and ``rephrases`` a line.

    Raises:
        EditError: naming file and line, if a line is not a fact; or if there are none, or fewer than ``count``.
    """
    checksum = file_sha256(path)
    items: list[Fact] = []
    for where, values in islice(_rows(path), count):
        try:
            edit = Edit.from_dict(values)
            given = values.get("rephrases") or []
            if not isinstance(given, list):
                raise EditError(f"rephrases must be a list of prompts, not {type(given).__name__}")
            rephrases = tuple(check_prompt(prompt, f"rephrases[{i}]") for i, prompt in enumerate(given))
        except EditError as error:
            raise EditError(f"{where}: {error}") from None
        items.append(Fact(edit, rephrases))
    if not items:
        raise EditError(f"{path} holds no edits")
    if count is not None and len(items) < count:
        there = counted(len(items), "edit")
        raise EditError(f"{path} holds {there}, fewer than the {count:,} asked for: give --count {len(items)}")
    return Facts(path.name, checksum, tuple(items))


def read_questions(path: Path) -> tuple[list[str], str]:
    """Read the ``question`` of each line of a JSONL file (``.gz`` too); return them and the sha256 of its bytes.

    Raises:
        EditError: naming file and line, if a line has no question; or if there are none.
    """
    checksum, questions = file_sha256(path), []
    for where, values in _rows(path):
        question = values.get("question") if isinstance(values, dict) else None
        if not isinstance(question, str) or not question.strip():
            raise EditError(f"{where}: no question, which must be a string that is not empty")
        questions.append(question)
    if not questions:
        raise EditError(f"{path} holds no questions")
    return questions, checksum


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a JSONL file, each with its place; lines after the last one taken are not read."""
    with open_utf8(path, str(path)) as stream:
        yield from json_rows(stream, str(path))


def paper_settings(preset: str | None, settings: Sequence[str]) -> Callable[..., PaperConfig]:
    """Return a function that builds a paper-mode configuration from these settings and those that a run varies.

    Args:
        preset: one of the paper's presets, or None.
        settings: texts of the form ``NAME=VALUE``.

    Raises:
        ModelError: if there is no such preset or setting, or a value is invalid.
    """
    for setting in settings:
        if setting.partition("=")[0] in ("mode", "preset"):
            raise ModelError(f"--set {setting}: the ablations are of paper mode; a preset is chosen with --preset")

    def configure(**varied: Any) -> PaperConfig:
        from ...paper.config import PaperConfig

        rest = [setting for setting in settings if setting.partition("=")[0] not in varied]
        config = read_config(varied, rest, paper=True, preset=preset)
        assert isinstance(config, PaperConfig)
        return config

    configure()
    return configure


def read_numbers(option: str, text: str, kind: Callable[[str], Any], more: str = "") -> list[Any]:
    """Return the positive numbers of an option, without repetitions.

    Args:
        option: the option's name, for errors.
        text: numbers separated by commas.
        kind: int or float.
        more: what else the option accepts, for errors.

    Raises:
        MeloEditError: if the text has anything else.
    """
    words = "positive whole numbers" if kind is int else "positive numbers"
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise MeloEditError(f"{option} {text}: give {words} separated by commas{more}")
    return list(dict.fromkeys(numbers))
