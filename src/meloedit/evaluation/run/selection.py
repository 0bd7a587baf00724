"""What of a task a model can be asked: edits that it can write, prompts that it can read, and where it errs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import EditError, MeloEditError
from ..tasks.prefixes import PREFIXES, prefixed
from ..tasks.task import Item, Task
from .observe import answered
from .prompts import fitted

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...methods.base import Method
    from ...types import Progress, Prompt
    from .plan import Plan

LEAST_TOKENS = 20
"""Tokens that an answer may have at least; more where a target is longer."""
CHUNK = 128
"""Prompts that are asked at once to find what the model errs on."""


def check_model(task: Task, backbone: Backbone) -> None:
    """Raise a MeloEditError if a model is not of the kind that a task is for."""
    kind, name = type(backbone.model).__name__, task.name
    if backbone.documents and task.kind != "document":
        raise MeloEditError(f"task {name} asks for words, and {kind} is a classifier: give --model one that generates")
    if task.kind == "document" and not backbone.documents:
        raise MeloEditError(f"task {name} asks for labels, and {kind} has none: give --model a classifier")


def choose(
    plan: Plan, base: Method, said: Callable[[Sequence[Prompt], int], list[str]], tell: Progress
) -> tuple[Task, int]:
    """Return a plan's task with the edits to make and the prompts that the model can read, and an answer's most tokens.

    What is left out is counted in the task's ``cleaning``: edits that the model has no tokens or no room for
    (``unwritable``), where only errors are edited those that it answers rightly (``answered_right``), and other prompts
    that it cannot read, or not with their answer (``unreadable``).

    Args:
        plan: the plan.
        base: the unedited model.
        said: gives its answers to prompts, of so many tokens at most.
        tell: told what is being done.

    Raises:
        EditError: if fewer edits are left than asked for.
    """
    sizes = {item.edit.id: size for item in plan.task.items if (size := _tokens(base, item)) is not None}
    kept = tuple(item for item in plan.task.items if item.edit.id in sizes)
    unwritable = len(plan.task.items) - len(kept)
    task = _counting(replace(plan.task, items=kept), "unwritable", unwritable)
    longest = max(LEAST_TOKENS, max(sizes.values(), default=0) + 1)
    if task.only_wrong:
        task = _errors(task, plan.edits, lambda prompts: said(prompts, longest), base.backbone, tell)
    items = task.take(plan.edits)
    task = fitted(replace(task, items=items), items, base.backbone)
    longest = max(LEAST_TOKENS, max((sizes[item.edit.id] for item in items), default=0) + 1)
    return _readable(task, base.backbone, longest, plan.prefixes), longest


def _tokens(base: Method, item: Item) -> int | None:
    """Return how many tokens an edit's target has; ``None`` if the model cannot write or read the edit."""
    try:
        return len(base.examples([item.edit])[0].target)
    except EditError:
        return None


def _errors(
    task: Task, count: int | None, said: Callable[[Sequence[Prompt]], list[str]], backbone: Backbone, tell: Progress
) -> Task:
    """Return a task with the first items that the model answers wrongly, as many as are asked for."""
    wrong: list[Item] = []
    seen = 0
    while seen < len(task.items) and (count is None or len(wrong) < count):
        part = task.items[seen : seen + CHUNK]
        seen += len(part)
        tell("finding what the model errs on", seen, len(task.items))
        targets = [(backbone.named(item.edit).target,) for item in part]
        texts = said([item.edit.prompt for item in part])
        wrong += [item for item, text, own in zip(part, texts, targets, strict=True) if not answered(text, own)]
    return _counting(replace(task, items=tuple(wrong)), "answered_right", seen - len(wrong))


def _readable(task: Task, backbone: Backbone, longest: int, prefixes: bool) -> Task:
    """Leave out rephrasings, near and far prompts and probes that the model has no room or no tokens for."""
    names, chat = (None, *PREFIXES) if prefixes else (None,), backbone.markers is not None
    limit = backbone.max_length
    dropped = 0

    def fits(prompt: Prompt, answers: Sequence[str] = ()) -> bool:
        nonlocal dropped
        try:
            encoded = [backbone.encode(prefixed(name, prompt, chat) if name else prompt) for name in names]
            for answer in answers[:1]:  # the one that is scored by likelihood
                backbone.encode_target(answer, encoded[0])
            taken = max(len(one.ids) for one in encoded) + (longest if backbone.answer_follows_prompt else 0)
            room = backbone.documents or limit is None or taken <= limit
        except EditError:
            room = False
        dropped += not room
        return room

    items = tuple(
        replace(
            item,
            rephrases=tuple(filter(fits, item.rephrases)),
            near=tuple(filter(fits, item.near)),
            attribute=tuple(filter(fits, item.attribute)),
            portability=tuple(probe for probe in item.portability if fits(probe.prompt, probe.answers)),
        )
        for item in task.items
    )
    far = tuple(one for one in task.far if fits(one.prompt))
    upstream, accurate = (
        tuple(one for one in probes if fits(one.prompt, one.answers)) for probes in (task.upstream, task.accurate)
    )
    task = replace(task, items=items, far=far, upstream=upstream, accurate=accurate)
    return _counting(task, "unreadable", dropped)


def _counting(task: Task, name: str, count: int) -> Task:
    return replace(task, cleaning=task.cleaning | {name: count}) if count else task
