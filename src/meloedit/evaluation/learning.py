"""Training edits of methods that learn beforehand: read from a file that no score is taken of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..edit import Edit, prompt_key
from ..errors import EditError, MeloEditError
from ..methods.data_files import check_no_input
from ..readers import read_edits
from .tasks.records import read_records
from .tasks.registry import load_task, task_of

if TYPE_CHECKING:
    from .tasks.task import Item


def training_edits(method: str, path: str, questions: bool) -> list[Edit]:
    """Return the edits of a file that a method learns from.

    The file is one of those that tasks of questions read (zsRE, CounterFact, ...), or rows of the package's own edits,
    with ``variants`` and ``quiet``. Of the first, rephrasings become variants, and near prompts quiet ones; where a row
    has none, a far prompt of the file stands in.

    Args:
        method: the method's name, for errors.
        path: the file.
        questions: whether the task that is scored is one of questions; for others rows are always the package's own.

    Raises:
        MeloEditError: if no file is given, or it cannot be read.
    """
    if not path:
        raise MeloEditError(f"method {method} learns beforehand: give training edits, --set {method}.train=FILE")
    check_no_input(path)
    try:
        if not questions or _own(path):
            return [item.edit for item in read_edits(path)]
        task = load_task(task_of(path), [path])
    except EditError as error:
        raise MeloEditError(f"method {method} cannot learn from {path}: {error}") from None
    far = [one.prompt for one in task.far]
    return [_training(item, far[i % len(far)] if far else None) for i, item in enumerate(task.items)]


def unscored(method: str, path: str, edits: Sequence[Edit], items: Iterable[Item]) -> list[Edit]:
    """Return training edits without those that ask what a scored edit asks.

    Args:
        method: the method's name, for errors.
        path: the file that they come from, likewise.
        edits: the training edits.
        items: what is scored.

    Raises:
        MeloEditError: if all of them do.
    """
    scored = {prompt_key(prompt) for item in items for prompt in (item.edit.prompt, *item.rephrases)}
    left = [edit for edit in edits if not any(prompt_key(prompt) in scored for prompt in edit.prompts)]
    if not left:
        raise MeloEditError(f"method {method} would learn what is scored: each edit of {path} asks what one does")
    return left


def _own(path: str) -> bool:
    """Whether rows are the package's own: CSV, or any has wordings to learn or to leave alone."""
    if path.lower().removesuffix(".gz").endswith(".csv"):
        return True
    return any("variants" in record or "quiet" in record for record in read_records(path))


def _training(item: Item, far: Any) -> Edit:
    """Return an item's edit with what it must answer, too, and what it must leave alone."""
    edit = item.edit
    asked = {prompt_key(edit.prompt)}
    variants = tuple(prompt for prompt in item.rephrases if prompt_key(prompt) not in asked)
    asked |= {prompt_key(prompt) for prompt in variants}
    quiet = item.near or (() if far is None else (far,))
    kept = tuple(prompt for prompt in quiet if prompt_key(prompt) not in asked)
    return Edit(edit.prompt, edit.target, edit.id, variants, kept, subject=edit.subject)


def learned_notes(name: str, learned: dict[str, Any]) -> list[str]:
    """Return a sentence on what a method's learning took, which no other figure counts."""
    if not learned:
        return []
    return [
        f"{name}: learned beforehand from {learned['examples']:,} edits ({learned['steps']:,} steps, "
        f"{learned['processor_seconds']:,.0f} processor seconds), which no figure of cost counts"
    ]
