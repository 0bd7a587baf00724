"""Selection: restricts a task to what the model can encode and, where the task asks for it, to what it gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import EditError, MeloEditError
from ...text import counted
from ..tasks.prefixes import PREFIXES, prefixed
from ..tasks.task import Item, Task
from .observe import is_right
from .prompts import fitted

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...methods.base import Method
    from ...types import Progress, Prompt
    from .plan import RunPlan

MIN_ANSWER_TOKENS = 20
"""Least limit of an answer's tokens; the limit is higher if a target is longer."""
CHUNK = 128
"""Edits whose prompts are answered at once to see which the model gets wrong."""
LEFT_OUT = {
    "unwritable": ("edit", ", more than the model's length or vocabulary holds"),
    "unreadable": ("other prompt", ", more than the model's length or vocabulary holds"),
    "conversation_edits": ("edit", " of a conversation: the model has no chat template"),
    "conversations": ("conversation", ": the model has no chat template"),
    "uncut": ("edit", " whose sentence does not show where its target begins"),
    "own_question_near": (
        "near prompt",
        " that, by their words, ask their edit's own question (see the rule of cleaning)",
    ),
}
"""What is left out that a result's notes name: the fault, its noun and the rest of the sentence."""


def check_model(task: Task, backbone: Backbone) -> None:
    """Check that a model generates text, or labels, as the task needs.

    Raises:
        MeloEditError: if it does not.
    """
    kind, name = type(backbone.model).__name__, task.name
    if backbone.documents and task.kind != "document":
        raise MeloEditError(f"task {name} asks for words, and {kind} is a classifier: give --model one that generates")
    if task.kind == "document" and not backbone.documents:
        raise MeloEditError(f"task {name} asks for labels, and {kind} has none: give --model a classifier")


def select(
    plan: RunPlan, base: Method, base_answers: Callable[[Sequence[Prompt], int], list[str]], progress: Progress
) -> tuple[Task, int]:
    """Restrict a plan's task to the edits to make and the prompts that the model can read.

    The task's ``cleaning`` counts what is left out: edits that the model has no tokens or no room for (``unwritable``),
    edits that it answers right already, if only errors are edited (``answered_right``), and other prompts that it
    cannot read, or not with their answer (``unreadable``). Conversations count apart where the model has no chat
    template (``conversation_edits``, ``conversations``).

    Args:
        plan: the plan.
        base: the unedited model.
        base_answers: returns its answers to prompts, with at most so many tokens.
        progress: called with what is being done, how much is done, and how much there is.

    Returns:
        The task, and the most tokens of an answer.

    Raises:
        EditError: if fewer edits are left than the plan asks for.
    """
    task = plan.task if reads_chats(base.backbone) else _without_chats(plan.task)
    sizes = {item.edit.id: size for item in task.items if (size := _target_tokens(base, item)) is not None}
    writable = tuple(item for item in task.items if item.edit.id in sizes)
    task = _counting(replace(task, items=writable), "unwritable", len(task.items) - len(writable))
    max_tokens = _max_tokens(sizes.values())
    if task.only_wrong:
        task = _wrongly_answered(task, plan.edits, lambda p: base_answers(p, max_tokens), base.backbone, progress)
    items = task.take(plan.edits)
    task = fitted(replace(task, items=items), items, base.backbone)
    max_tokens = _max_tokens(sizes[item.edit.id] for item in items)
    return _readable(task, base.backbone, max_tokens, plan.prefixes), max_tokens


def left_out_notes(task: Task) -> list[str]:
    """Return sentences on what was left out of a task's edits and prompts."""
    return [
        f"left out: {counted(task.cleaning[fault], noun)}{why}"
        for fault, (noun, why) in LEFT_OUT.items()
        if task.cleaning.get(fault)
    ]


def reads_chats(backbone: Backbone) -> bool:
    """Return whether a model can be asked a conversation: whether it has a chat template."""
    try:
        backbone.encode([{"role": "user", "content": "Hello."}])
    except EditError:
        return False
    return True


def _without_chats(task: Task) -> Task:
    """Leave out conversations, and the edits of one; these have no prompts any more."""
    items = [item for item in task.items if isinstance(item.edit.prompt, str)]
    task = _counting(task, "conversation_edits", len(task.items) - len(items))
    dropped = 0

    def text_alone(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        nonlocal dropped
        texts = tuple(prompt for prompt in prompts if isinstance(prompt, str))
        dropped += len(prompts) - len(texts)
        return texts

    plain = tuple(
        replace(
            item,
            rephrases=text_alone(item.rephrases),
            chats=text_alone(item.chats),
            near=text_alone(item.near),
            attribute=text_alone(item.attribute),
        )
        for item in items
    )
    far = tuple(one for one in task.far if isinstance(one.prompt, str))
    dropped += len(task.far) - len(far)
    return _counting(replace(task, items=plain, far=far), "conversations", dropped)


def _max_tokens(targets: Iterable[int]) -> int:
    """Return the most tokens of an answer: the longest target and its end token, or the least limit."""
    return max(MIN_ANSWER_TOKENS, max(targets, default=0) + 1)


def _target_tokens(base: Method, item: Item) -> int | None:
    """Return the number of tokens of an edit's target; ``None`` if the model has no tokens or no room for the edit."""
    try:
        return len(base.examples([item.edit])[0].target)
    except EditError:
        return None


def _wrongly_answered(
    task: Task,
    count: int | None,
    base_answers: Callable[[Sequence[Prompt]], list[str]],
    backbone: Backbone,
    progress: Progress,
) -> Task:
    """Return a task with the first ``count`` items that the model answers wrongly."""
    wrong: list[Item] = []
    seen = 0
    while seen < len(task.items) and (count is None or len(wrong) < count):
        part = task.items[seen : seen + CHUNK]
        seen += len(part)
        progress("finding what the model errs on", seen, len(task.items))
        targets = [(backbone.as_written(item.edit).target,) for item in part]
        texts = base_answers([item.edit.prompt for item in part])
        wrong += [item for item, text, target in zip(part, texts, targets, strict=True) if not is_right(text, target)]
    return _counting(replace(task, items=tuple(wrong)), "answered_right", seen - len(wrong))


def _readable(task: Task, backbone: Backbone, max_tokens: int, prefixes: bool) -> Task:
    """Leave out prompts other than the edits' that the model has no room or no tokens for."""
    names, chat = (None, *PREFIXES) if prefixes else (None,), backbone.markers is not None
    limit = backbone.max_length
    dropped = 0

    def fits(prompt: Prompt, answers: Sequence[str] = ()) -> bool:
        nonlocal dropped
        try:
            encoded = [backbone.encode(prefixed(name, prompt, chat) if name else prompt) for name in names]
            for answer in answers[:1]:  # likelihoods are of the first
                backbone.encode_target(answer, encoded[0])
            needed = max(len(one.ids) for one in encoded) + (max_tokens if backbone.answer_follows_prompt else 0)
            room = backbone.documents or limit is None or needed <= limit
        except EditError:
            room = False
        dropped += not room
        return room

    items = tuple(
        replace(
            item,
            rephrases=tuple(filter(fits, item.rephrases)),
            chats=tuple(filter(fits, item.chats)),
            near=tuple(filter(fits, item.near)),
            attribute=tuple(filter(fits, item.attribute)),
            portability=tuple(one for one in item.portability if fits(one.prompt, one.answers)),
        )
        for item in task.items
    )
    far = tuple(one for one in task.far if fits(one.prompt))
    upstream, accurate = (
        tuple(one for one in questions if fits(one.prompt, one.answers)) for questions in (task.upstream, task.accurate)
    )
    task = replace(task, items=items, far=far, upstream=upstream, accurate=accurate)
    return _counting(task, "unreadable", dropped)


def _counting(task: Task, name: str, count: int) -> Task:
    return replace(task, cleaning=task.cleaning | {name: count}) if count else task
