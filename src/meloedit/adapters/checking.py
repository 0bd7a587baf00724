"""Check: ask exported adapters through PEFT, and compare the answers with those of the editor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.answering import Answerer, generate_in_batches, greedy
from ..errors import MeloEditError
from ..keys.grammar import make_prompts
from .index import read_index

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..backbones.batch import Encoded
    from ..engine.engine import Engine
    from ..types import Progress

PEFT = (0, 20), (0, 22)
"""The versions of PEFT that were tried: from the first one on, below the second."""
OTHERS = 20
"""Prompts beside those of the edits, which concern none."""


@dataclass(frozen=True)
class Expected:
    """What the editor answers.

    Attributes:
        encoded: a prompt.
        edit: the edit that answers it; ``None``: the base model.
        text: the answer.
        tokens: how many tokens it may have.
    """

    encoded: Encoded
    edit: str | None
    text: str
    tokens: int


@dataclass(frozen=True)
class Compared:
    """Answers through PEFT beside the editor's.

    Attributes:
        edits: how many edits were asked.
        same_edits: how many of them have the editor's answer in every wording and form.
        asked: prompts that were asked.
        same: how many of their answers are the editor's.
        differ: a line for each of the others.
    """

    edits: int
    same_edits: int
    asked: int
    same: int
    differ: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return vars(self) | {"differ": list(self.differ)}


def need_peft() -> None:
    """Check that PEFT is there, in a version that was tried.

    Raises:
        MeloEditError: saying which versions were, and how to install one.
    """
    wanted = "'peft>={}.{},<{}.{}'".format(*PEFT[0], *PEFT[1])
    try:
        found = version("peft")
    except PackageNotFoundError:
        raise MeloEditError("asking the adapters needs PEFT: pip install 'meloedit[peft]'") from None
    number = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if not PEFT[0] <= number < PEFT[1]:
        raise MeloEditError(f"PEFT {found} was not tried with these adapters: pip install {wanted}")


def expected(engine: Engine, forms: Sequence[str], progress: Progress | None = None) -> list[Expected]:
    """Return what an editor answers to its edits' prompts, in every wording, and to prompts that concern none.

    Args:
        engine: the model and its store.
        forms: the forms in which they are asked.
        progress: told how many are asked.
    """
    backbone = engine.backbone
    prompts = [prompt for stored in engine.store.edits() if stored.enabled for prompt in stored.edit.prompts]
    prompts += make_prompts(OTHERS, seed=2)
    asked = [(prompt, form) for prompt in prompts for form in backbone.forms(prompt) if form.form in forms]
    longest = [len(backbone.encode_target(stored.edit.target, asked[0][1])) for stored in engine.store.edits()]
    tokens = max(longest, default=1) + 1
    answers = Answerer(engine, 32, progress).answer_encoded(
        [prompt for prompt, _ in asked], [form for _, form in asked], {"max_new_tokens": tokens}
    )
    return [
        Expected(form, answer.route.edit, answer.text, tokens) for (_, form), answer in zip(asked, answers, strict=True)
    ]


def compare_with_peft(
    backbone: Backbone, folder: str | Path, wanted: Sequence[Expected], progress: Progress | None = None
) -> Compared:
    """Ask a model with each adapter in turn, loaded by PEFT.

    Args:
        backbone: the model, without any editor on it.
        folder: the adapters.
        wanted: what the editor answered.
        progress: told how many prompts are asked.

    Raises:
        MeloEditError: if PEFT is missing or of a version that was not tried, or an adapter is not there.
    """
    need_peft()
    from peft import PeftModel

    folder = Path(folder)
    names = {entry.edit.id: entry.adapter for entry in read_index(folder).entries}
    by_edit: dict[str | None, list[int]] = {}
    for number, one in enumerate(wanted):
        by_edit.setdefault(one.edit, []).append(number)
    if missing := [edit for edit in by_edit if edit is not None and edit not in names]:
        raise MeloEditError(f"{folder} has no adapter of edit {missing[0]!r}: export the store again")
    got: dict[int, str] = {}
    tuned: Any = None
    for edit, numbers in sorted(by_edit.items(), key=lambda item: item[0] is not None):  # the base model first
        if edit is not None:
            path = str(folder / names[edit])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of PEFT, about layers that are wrapped again
                if tuned is None:
                    tuned = PeftModel.from_pretrained(backbone.model, path, adapter_name="edit")
                else:
                    tuned.delete_adapter("edit")
                    tuned.load_adapter(path, adapter_name="edit")
                    tuned.set_adapter("edit")
        got |= _answers(backbone, tuned, [wanted[number] for number in numbers], numbers)
        if progress:
            progress("asking through PEFT", len(got), len(wanted))
    if tuned is not None:
        tuned.unload()
    return _compared(wanted, got)


def _answers(backbone: Backbone, tuned: Any, part: Sequence[Expected], numbers: Sequence[int]) -> dict[int, str]:
    settings = greedy(backbone) | {"max_new_tokens": part[0].tokens}
    model, found = backbone.model, dict[int, str]()
    try:
        backbone.model = model if tuned is None else tuned
        for rows, answers in generate_in_batches(backbone, [one.encoded for one in part], 32, settings):
            found |= {numbers[row]: text for row, (text, _) in zip(rows, answers, strict=True)}
    finally:
        backbone.model = model
    return found


def _compared(wanted: Sequence[Expected], got: dict[int, str]) -> Compared:
    off = [number for number, one in enumerate(wanted) if got[number] != one.text]
    edits = {one.edit for one in wanted if one.edit is not None}
    bad = {wanted[number].edit for number in off}
    lines = tuple(
        f"{wanted[number].edit or 'no edit'} ({wanted[number].encoded.form}): {got[number]!r}, not "
        f"{wanted[number].text!r}"
        for number in off
    )
    return Compared(len(edits), len(edits - bad), len(wanted), len(wanted) - len(off), lines)
