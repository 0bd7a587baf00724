"""What is asked of a method: each prompt of a task once, with what it is for and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ...errors import EditError
from ..tasks.task import Item, Probe, Task

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.batch import Encoded
    from ...types import Prompt

Set = Literal["edits", "rephrases", "near", "attribute", "far", "portability", "upstream", "accurate"]

REFERENCE = 8
"""Tokens of the base model's answer at which the logits of a prompt that no edit concerns are compared."""
WEB_PROMPT, WEB_TARGET = 32, 128
"""Tokens of a web text that are the prompt of a passage task, and that are scored after them."""
DOCUMENT = 256
"""Tokens of a document that a classifier reads where nothing says how many it takes."""


@dataclass(frozen=True)
class Ask:
    """One prompt to be scored.

    Attributes:
        set: what it is for.
        item: number of the item it belongs to, or of the prompt in its set; forms of one far question share it.
        k: its number among the item's prompts of this set.
        prompt: the prompt.
        answers: the answers that are right; none: the base model's.
        edit: id of the edit that should answer; ``None``: none should.
        kind: where a far prompt is from.
    """

    set: Set
    item: int
    k: int
    prompt: Prompt
    answers: tuple[str, ...] = ()
    edit: str | None = None
    kind: str | None = None

    @property
    def kept(self) -> bool:
        """Whether what the base model does is what should be done."""
        return self.edit is None


def item_asks(items: Sequence[Item], first: int = 0) -> dict[Set, list[Ask]]:
    """Return what is asked about items, which are numbered from ``first``."""
    made: dict[Set, list[Ask]] = {"edits": [], "rephrases": [], "near": [], "attribute": [], "portability": []}
    for number, item in enumerate(items, first):
        edit = item.edit
        made["edits"].append(Ask("edits", number, 0, edit.prompt, (edit.target,), edit.id))
        made["rephrases"] += [
            Ask("rephrases", number, k, prompt, (edit.target,), edit.id) for k, prompt in enumerate(item.rephrases)
        ]
        made["near"] += [Ask("near", number, k, prompt) for k, prompt in enumerate(item.near)]
        made["attribute"] += [Ask("attribute", number, k, prompt) for k, prompt in enumerate(item.attribute)]
        made["portability"] += [
            Ask("portability", number, k, probe.prompt, probe.answers, edit.id)
            for k, probe in enumerate(item.portability)
        ]
    return {name: asks for name, asks in made.items() if asks}


def other_asks(task: Task, limit: int | None) -> dict[Set, list[Ask]]:
    """Return what is asked about no edit, ``limit`` prompts of each set (and of each kind of far prompt) at most."""
    counts: dict[str, int] = {}
    forms: dict[int, list[int]] = {}
    far = []
    for number, prompt in enumerate(task.far):
        counts[prompt.kind] = counts.get(prompt.kind, 0) + 1
        if limit is None or counts[prompt.kind] <= limit:
            own = [] if prompt.question is None else forms.setdefault(prompt.question, [])
            own.append(number)
            far.append(Ask("far", own[0], len(own) - 1, prompt.prompt, kind=prompt.kind))
    made: dict[Set, list[Ask]] = {"far": far}
    rest: Set = "far" if task.kind == "passage" else "upstream"
    for name, probes in ((rest, task.upstream), ("accurate", task.accurate)):
        made[name] = [Ask(name, i, 0, p.prompt, p.answers) for i, p in enumerate(probes[:limit])]
    return {name: asks for name, asks in made.items() if asks}


def fitted(task: Task, items: tuple[Item, ...], backbone: Backbone) -> Task:
    """Return a task with what a tokenizer is needed for, and without what concerns other items than the chosen ones.

    A document's rephrasing is what follows the tokens that the model reads, where the text goes on for half as many.
    A web text of a passage task becomes a prompt and its continuation.
    """
    if task.kind == "document":
        size = backbone.max_length or DOCUMENT
        return replace(task, items=tuple(_with_rest(item, backbone, size) for item in items))
    if task.kind == "passage":
        touched = {item.subject for item in items}
        accurate = tuple(probe for probe in task.accurate if probe.subject in touched)
        cut = [made for far in task.far if (made := _continued(far.prompt, backbone)) is not None]
        return replace(task, items=items, accurate=accurate, upstream=tuple(cut), far=())
    return replace(task, items=items)


def _spans(text: str, backbone: Backbone) -> list[tuple[int, int]]:
    return list(backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])


def _with_rest(item: Item, backbone: Backbone, size: int) -> Item:
    text, spans = str(item.edit.prompt), _spans(str(item.edit.prompt), backbone)
    first = size - backbone.tokenizer.num_special_tokens_to_add()
    long_enough = len(spans) >= first + size // 2
    return replace(item, rephrases=(text[spans[first][0] :],) if long_enough else ())


def _continued(text: str, backbone: Backbone) -> Probe | None:
    spans = _spans(text, backbone)[: WEB_PROMPT + WEB_TARGET]
    if len(spans) <= WEB_PROMPT:
        return None
    end = spans[WEB_PROMPT - 1][1]
    return Probe(text[:end], (text[end : spans[-1][1]],))


def target_ids(backbone: Backbone, encoded: Encoded, text: str) -> list[int]:
    """Return the tokens of an answer without the token that ends it."""
    return [token for token in backbone.encode_target(text, encoded) if token not in backbone.stop_ids]


def reference_ids(backbone: Backbone, encoded: Encoded, said: str) -> list[int]:
    """Return the first tokens of what the base model said to a prompt, at least one."""
    try:
        ids = target_ids(backbone, encoded, said)
    except EditError:  # nothing was said, or what no text gives the tokens of
        ids = list(backbone.tokenizer(said, add_special_tokens=False)["input_ids"]) if not backbone.documents else []
    return ids[:REFERENCE] or list(backbone.stop_ids[:1]) or [0]
