"""The tasks of ``meloedit eval``: which there are, and how one is read from files.

Files come in any order and are recognised by the fields of their first row. What is read is cleaned by stated rules,
so that no edit is impossible and no prompt counts for two things at once; then edits are put into a seeded order, of
which the first N are always part of the first N + 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ...errors import EditError
from .cleaning import RULE, Draft, clean
from .documents import Texts, read_cases, read_passages
from .questions import read_questions
from .sources import SHAPES, Source, open_source, task_of
from .task import Far, Item, Kind, Probe, Task

__all__ = ["TASKS", "load_task", "task_of"]

TASKS = ("zsre", "counterfact", "mquake", "scotus", "hallucination")
"""The names of the tasks."""

WEB_WORDS = 32
"""Words of a web text that make a far prompt."""

KINDS: dict[str, Kind] = {"scotus": "document", "hallucination": "passage"}
T = TypeVar("T")


def load_task(
    name: str,
    data: Sequence[str],
    seed: int = 0,
    protocol: str = "retention",
    rephrases: int | None = None,
    near: int | None = None,
) -> Task:
    """Read a task from its files.

    Args:
        name: one of ``TASKS``.
        data: paths of JSONL files, JSON lists or plain text (``.gz`` too), or ``hf://datasets/OWNER/NAME/FILE``, in any
            order.
        seed: of the order of the edits, the far prompts and the upstream probes.
        protocol: under ``paper`` zsRE is edited toward the true answer, and only where the model errs; under
            ``routing`` the edits of all groups are made together.
        rephrases: how many rephrasings of an edit are kept at most; all of them where None.
        near: how many near prompts of an edit are kept at most.

    Raises:
        EditError: if there is no such task, a file cannot be read or is none of this task's, or no edit is left.
    """
    if name not in TASKS:
        raise EditError(f"no task {name!r} (known: {', '.join(TASKS)})")
    for what, number in (("rephrases", rephrases), ("near", near)):
        if number is not None and number < 1:
            raise EditError(f"{what} must be at least 1, not {number}")
    sources = [open_source(path, name) for path in data]
    edits = [source for source in sources if source.shape.role == "edits"]
    if not edits:
        wanted = "; or ".join(", ".join(s.needs) for s in SHAPES if s.role == "edits" and name in s.tasks)
        given = ", ".join(source.name for source in sources) or "none"
        raise EditError(f"task {name}: no edits among the files ({given}): give one whose rows have {wanted}")
    paper = protocol == "paper"
    probes: dict[int | None, tuple[Probe, ...]] = {}
    own: list[str] = []
    texts = Texts()
    if name == "scotus":
        drafts, texts = read_cases(edits)
    elif name == "hallucination":
        drafts, texts = read_passages(edits, [source for source in sources if source.shape.role == "biographies"])
    else:
        drafts, own, probes = read_questions(name, edits, paper)
    if protocol == "routing":
        drafts, probes = [replace(draft, item=replace(draft.item, group=None)) for draft in drafts], {}
    _check_ids(drafts)
    units = _far(sources, own, None if name == "hallucination" else WEB_WORDS, paper)
    far = [one for unit in _shuffled(units, seed) for one in unit]
    items, far, counts = clean(drafts, far, paper)
    if not items:
        why = ", ".join(f"{number:,} {what}" for what, number in counts.items() if isinstance(number, int) and number)
        files = ", ".join(source.name for source in edits)
        raise EditError(f"task {name}: no edit is left of {len(drafts):,} ({files}): {why}")
    items = [
        replace(item, rephrases=item.rephrases[:rephrases], near=item.near[:near], attribute=item.attribute[:near])
        for item in items
    ]
    if probes:  # what follows from all the edits of a group is asked once, of the first that is left
        items = [replace(item, portability=probes.pop(item.group, ())) for item in items]
    return Task(
        name=name,
        kind=KINDS.get(name, "question"),
        items=tuple(item for unit in _shuffled(_units(items), seed) for item in unit),
        far=tuple(far),
        upstream=tuple(_shuffled(texts.upstream, seed)),
        accurate=tuple(texts.accurate),
        documents=tuple(texts.documents),
        only_wrong=name == "scotus" or (name == "zsre" and paper),
        cleaning={"rows": len(drafts), **counts, "rule": RULE},
        files=tuple(source.summary() for source in sources),
    )


def _shuffled(values: Iterable[T], seed: int) -> list[T]:
    mixed = list(values)
    random.Random(seed).shuffle(mixed)
    return mixed


def _units(items: Iterable[Item]) -> list[list[Item]]:
    """Put items that are edited together into one list, each other item into its own."""
    units: dict[tuple[str, int], list[Item]] = {}
    for i, item in enumerate(items):
        units.setdefault(("item", i) if item.group is None else ("group", item.group), []).append(item)
    return list(units.values())


def _far(sources: Iterable[Source], own: Iterable[str], words: int | None, paper: bool) -> list[tuple[Far, ...]]:
    """Return the far prompts; the two forms of one NQ question stay together, so that equally many are compared.

    Under ``paper`` NQ questions have the one form that a T5 of the paper's kind is trained on: a "?" at the end.
    """
    units: list[tuple[Far, ...]] = [(Far(prompt, "own"),) for prompt in own]
    readers: dict[str, Callable[[str], tuple[Far, ...]]] = {
        "question": lambda text: (
            (Far(text.rstrip("?").rstrip() + "?", "nq"),)
            if paper
            else (Far(text, "nq", len(units)), Far(_dressed(text), "nq dressed", len(units)))
        ),
        "text": lambda text: (Far(text if words is None else " ".join(text.split()[:words]), "web"),),
    }
    for field, make in readers.items():
        for source in sources:
            if source.shape.role in ("far", "web") and source.shape.needs[0] == field:
                for row in source.rows:
                    units.append(make(row.text(field)))
    return units


def _dressed(question: str) -> str:
    question = question.strip()
    return question[0].upper() + question[1:].rstrip("?").rstrip() + "?"


def _check_ids(drafts: Iterable[Draft]) -> None:
    places: dict[str, str] = {}
    for draft in drafts:
        name = draft.item.edit.id
        if name in places:
            raise EditError(f"{draft.where}: the id {name!r} is also that of {places[name]}; each edit needs its own")
        places[name] = draft.where
