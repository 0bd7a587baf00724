"""The registry of tasks, and how one is put together: its files are read, cleaned and ordered.

Files come in any order and are recognised by the fields of their first row. The edits have a seeded order, in which
the first N edits are always among the first N + 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from ...errors import EditError
from .cleaning import OWN_QUESTION_RULE, RULE, clean
from .data_files import SHAPES, DataFile, edits_of, open_data_file, task_of
from .documents import read_hallucination, read_scotus
from .drafts import Contents, Draft
from .far import far_units
from .portable.knowedit import read_knowedit
from .portable.mquake import read_mquake
from .portable.ripple import read_ripple
from .questions import read_counterfact, read_zsre
from .scope.helpdesk import read_helpdesk
from .scope.pairs import PAIRS_RULE, clean_pairs, read_pairs
from .task import FarPrompt, Item, Kind, Question, Task

__all__ = ["TASKS", "load_task", "task_of"]

WEB_WORDS = 32
"""Words of a web text that make a far prompt."""
T = TypeVar("T")
Cleaner = Callable[[Iterable[Draft], Iterable[FarPrompt], bool], tuple[list[Item], list[FarPrompt], dict[str, int]]]
"""As ``clean``."""


@dataclass(frozen=True)
class TaskType:
    """How a task is read.

    Attributes:
        read: takes the task's files and whether the protocol is ``paper``; returns the edits and other prompts.
        kind: what prompts and answers are.
        only_wrong: when edits that the model already answers right are left out; ``paper``: under that protocol.
        web_words: words of a web text that make a far prompt; ``None``: the whole text.
        clean: leaves out faulty edits and prompts.
        rule: what it does, in words.
        routes_alone: whether the task says nothing of answers.
    """

    read: Callable[[Sequence[DataFile], bool], Contents]
    kind: Kind = "question"
    only_wrong: Literal["never", "paper", "always"] = "never"
    web_words: int | None = WEB_WORDS
    clean: Cleaner = clean
    rule: str = RULE
    routes_alone: bool = False


TASKS: dict[str, TaskType] = {
    "zsre": TaskType(
        read_zsre,
        only_wrong="paper",
        clean=partial(clean, own_question=True),
        rule=RULE + OWN_QUESTION_RULE,
    ),
    "counterfact": TaskType(read_counterfact),
    "mquake": TaskType(read_mquake),
    "knowedit": TaskType(read_knowedit, clean=partial(clean, own_question=True), rule=RULE + OWN_QUESTION_RULE),
    "ripple": TaskType(read_ripple),
    "scotus": TaskType(read_scotus, "document", only_wrong="always"),
    "hallucination": TaskType(read_hallucination, "passage", web_words=None),
    "helpdesk": TaskType(read_helpdesk),
    "pairs": TaskType(read_pairs, clean=clean_pairs, rule=PAIRS_RULE, routes_alone=True),
}
"""The tasks by name."""


def load_task(
    name: str,
    data: Sequence[str],
    seed: int = 0,
    protocol: str = "retention",
    rephrases: int | None = None,
    near: int | None = None,
    own_question: bool = False,
) -> Task:
    """Read a task from its files.

    Args:
        name: one of ``TASKS``.
        data: paths of JSONL files, JSON lists or plain text (``.gz`` too), or ``hf://datasets/OWNER/NAME/FILE``, in any
            order.
        seed: seed of the order of the edits, the far prompts and the upstream questions.
        protocol: under ``paper`` zsRE is edited toward the true answer, and only where the model errs; under
            ``routing`` the edits of all groups form one index; under ``single`` each edit is a group of its own.
        rephrases: most rephrasings of an edit; ``None``: all.
        near: most near prompts of an edit; ``None``: all.
        own_question: whether near prompts of zsRE and KnowEdit that ask the edit's own question stay.

    Raises:
        EditError: if there is no such task, it measures routes alone and the protocol more, a file cannot be read or
            does not belong to it, or no edit is left.
    """
    _check_arguments(name, protocol, rephrases, near)
    task_type, paper = TASKS[name], protocol == "paper"
    if own_question:
        task_type = replace(task_type, clean=clean, rule=RULE)
    files = [open_data_file(path, name) for path in data]
    _check_edits(name, files)
    contents = task_type.read(files, paper)
    if protocol == "routing":
        contents.drafts = [replace(draft, item=replace(draft.item, group=None)) for draft in contents.drafts]
        contents.portability = {}
    _check_ids(contents.drafts)
    units = far_units(files, contents.far, task_type.web_words, paper)
    far = [prompt for unit in _shuffled(units, seed) for prompt in unit]
    items, far, counts = task_type.clean(contents.drafts, far, paper)
    if not items:
        raise _nothing_left(name, files, contents.rows, contents.left_out | counts)
    if protocol == "single":
        items = [replace(item, group=i) if item.group is None else item for i, item in enumerate(items)]
    items = _with_portability(_shortened(items, rephrases, near), contents.portability)
    return Task(
        name=name,
        kind=task_type.kind,
        items=tuple(item for unit in _shuffled(_groups(items), seed) for item in unit),
        far=tuple(far),
        upstream=tuple(_shuffled(contents.upstream, seed)),
        accurate=tuple(contents.accurate),
        documents=tuple(contents.documents),
        only_wrong=task_type.only_wrong == "always" or (paper and task_type.only_wrong == "paper"),
        cleaning={"rows": contents.rows, **contents.left_out, **counts, "rule": task_type.rule},
        files=tuple(file.summary() for file in files),
    )


def _check_arguments(name: str, protocol: str, rephrases: int | None, near: int | None) -> None:
    if name not in TASKS:
        raise EditError(f"no task {name!r} (known: {', '.join(TASKS)})")
    if TASKS[name].routes_alone and protocol != "routing":
        raise EditError(f"task {name} says which prompts ask the same, not what to answer: give --routing")
    for option, number in (("rephrases", rephrases), ("near", near)):
        if number is not None and number < 1:
            raise EditError(f"{option} must be at least 1, not {number}")


def _check_edits(name: str, files: Sequence[DataFile]) -> None:
    if not edits_of(files):
        wanted = "; or ".join(", ".join(s.needs) for s in SHAPES if s.role == "edits" and name in s.tasks)
        given = ", ".join(file.name for file in files) or "none"
        raise EditError(f"task {name}: no edits among the files ({given}): give one whose rows have {wanted}")


def _check_ids(drafts: Iterable[Draft]) -> None:
    places: dict[str, str] = {}
    for draft in drafts:
        name = draft.item.edit.id
        if name in places:
            raise EditError(f"{draft.where}: the id {name!r} is also that of {places[name]}; each edit needs its own")
        places[name] = draft.where


def _nothing_left(name: str, files: Sequence[DataFile], rows: int, counts: dict[str, int]) -> EditError:
    reasons = ", ".join(f"{number:,} {fault}" for fault, number in counts.items() if number)
    names = ", ".join(file.name for file in edits_of(files))
    return EditError(f"task {name}: no edit is left of {rows:,} ({names}): {reasons}")


def _shortened(items: Iterable[Item], rephrases: int | None, near: int | None) -> list[Item]:
    """Return items with at most so many rephrasings and near prompts."""
    return [
        replace(item, rephrases=item.rephrases[:rephrases], near=item.near[:near], attribute=item.attribute[:near])
        for item in items
    ]


def _with_portability(items: list[Item], by_group: dict[int | None, tuple[Question, ...]]) -> list[Item]:
    """Give the questions that follow from a group's edits to its first item."""
    if not by_group:
        return items
    waiting = dict(by_group)
    return [replace(item, portability=waiting.pop(item.group, ())) for item in items]


def _groups(items: Iterable[Item]) -> list[list[Item]]:
    """Put items that are edited together into one list, each other item into a list by itself."""
    groups: dict[tuple[str, int], list[Item]] = {}
    for i, item in enumerate(items):
        groups.setdefault(("item", i) if item.group is None else ("group", item.group), []).append(item)
    return list(groups.values())


def _shuffled(values: Iterable[T], seed: int) -> list[T]:
    mixed = list(values)
    random.Random(seed).shuffle(mixed)
    return mixed
