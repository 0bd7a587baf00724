"""The prompts of a run: every prompt of a task once, with its set, its right answers and the edit it should reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ...edit import prompt_text
from ...errors import EditError
from ..metrics.observation import Observation
from ..tasks.task import Item, Question, Task

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.batch import Encoded
    from ...types import Prompt

PromptSet = Literal["edits", "rephrases", "chats", "near", "attribute", "far", "portability", "upstream", "accurate"]
"""What a prompt is for."""

REFERENCE_TOKENS = 8
"""Most tokens of the base model's answer at which the logits of a prompt that no edit concerns are compared."""
WEB_PROMPT, WEB_TARGET = 32, 128
"""Tokens of a web text that form the prompt of a passage task, and tokens that are scored after them."""
DOCUMENT_TOKENS = 256
"""Tokens of a document that a classifier reads if nothing states its limit."""


@dataclass(frozen=True)
class EvalPrompt:
    """One prompt to be scored.

    Attributes:
        set: what it is for.
        item: number of its item, or of the prompt in its set; the forms of one far question share it.
        k: its number among the item's prompts of this set.
        prompt: the prompt.
        answers: the right answers; if there are none, the base model's answer is right.
        edit: id of the edit that should answer; ``None``: none should.
        kind: where a far prompt comes from; of what kind a rephrasing, near prompt, chat or question that follows is.
        lang: the language, if the file says it.
        before: the answers that were right before the edit, if the file says it.
    """

    set: PromptSet
    item: int
    k: int
    prompt: Prompt
    answers: tuple[str, ...] = ()
    edit: str | None = None
    kind: str | None = None
    lang: str | None = None
    before: tuple[str, ...] = ()

    @property
    def unedited(self) -> bool:
        """Whether no edit should answer, so that the base model's behaviour is right."""
        return self.edit is None

    def observation(self, wanted: str | None, **measured: Any) -> Observation:
        """Return the observation of this prompt.

        Args:
            wanted: the answer that counts as right; where routes alone are measured, the id of the edit to reach.
            measured: further keys of ``Observation``; keys of the route that are not given are None.
        """
        route: Any = dict.fromkeys(("route", "routed", "distance", "threshold")) | measured
        text = prompt_text(self.prompt)
        about = {"set": self.set, "item": self.item, "k": self.k, "prompt": text, "kind": self.kind}
        if self.lang is not None:
            about["lang"] = self.lang
        return Observation(**about, wanted=wanted, **route)  # type: ignore[typeddict-item]


def item_prompts(items: Sequence[Item], first: int = 0) -> dict[PromptSet, list[EvalPrompt]]:
    """Return the prompts of items by set; items are numbered from ``first``, sets without prompts are absent."""
    sets: dict[PromptSet, list[EvalPrompt]] = {
        "edits": [],
        "rephrases": [],
        "chats": [],
        "near": [],
        "attribute": [],
        "portability": [],
    }
    for number, item in enumerate(items, first):
        edit = item.edit
        target, lang = (edit.target,), item.lang
        sets["edits"].append(EvalPrompt("edits", number, 0, edit.prompt, target, edit.id, lang=lang))
        reaching: dict[PromptSet, tuple[Prompt, ...]] = {"rephrases": item.rephrases, "chats": item.chats}
        for name, prompts in reaching.items():
            sets[name] += [
                EvalPrompt(name, number, k, prompt, target, edit.id, item.kind_of(prompt), lang)
                for k, prompt in enumerate(prompts)
            ]
        others: dict[PromptSet, tuple[Prompt, ...]] = {"near": item.near, "attribute": item.attribute}
        for name, prompts in others.items():
            sets[name] += [
                EvalPrompt(name, number, k, prompt, kind=item.kind_of(prompt), lang=lang)
                for k, prompt in enumerate(prompts)
            ]
        sets["portability"] += [
            EvalPrompt("portability", number, k, one.prompt, one.answers, edit.id, one.kind, before=one.before)
            for k, one in enumerate(item.portability)
        ]
    return {name: prompts for name, prompts in sets.items() if prompts}


def other_prompts(task: Task, limit: int | None) -> dict[PromptSet, list[EvalPrompt]]:
    """Return the prompts that no edit concerns: at most ``limit`` of each set, and of each kind of far prompt."""
    counts: dict[str, int] = {}
    forms: dict[int, list[int]] = {}
    far = []
    for number, prompt in enumerate(task.far):
        counts[prompt.kind] = counts.get(prompt.kind, 0) + 1
        if limit is None or counts[prompt.kind] <= limit:
            numbers = [] if prompt.question is None else forms.setdefault(prompt.question, [])
            numbers.append(number)
            far.append(EvalPrompt("far", numbers[0], len(numbers) - 1, prompt.prompt, kind=prompt.kind))
    sets: dict[PromptSet, list[EvalPrompt]] = {"far": far}
    rest: PromptSet = "far" if task.kind == "passage" else "upstream"
    for name, questions in ((rest, task.upstream), ("accurate", task.accurate)):
        sets[name] = [EvalPrompt(name, i, 0, one.prompt, one.answers) for i, one in enumerate(questions[:limit])]
    return {name: prompts for name, prompts in sets.items() if prompts}


def fitted(task: Task, items: tuple[Item, ...], backbone: Backbone) -> Task:
    """Return a task with the given items alone, and with the prompts that need the model's tokenizer.

    A document's rephrasing is the text after the tokens that the model reads, if at least half as many follow.
    A web text of a passage task becomes a prompt and its continuation.
    """
    if task.kind == "document":
        size = backbone.max_length or DOCUMENT_TOKENS
        return replace(task, items=tuple(_with_rest(item, backbone, size) for item in items))
    if task.kind == "passage":
        touched = {item.subject for item in items}
        accurate = tuple(question for question in task.accurate if question.subject in touched)
        web = [
            question for far in task.far if (question := _continuation(prompt_text(far.prompt), backbone)) is not None
        ]
        return replace(task, items=items, accurate=accurate, upstream=tuple(web), far=())
    return replace(task, items=items)


def _spans(text: str, backbone: Backbone) -> list[tuple[int, int]]:
    return list(backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])


def _with_rest(item: Item, backbone: Backbone, size: int) -> Item:
    text, spans = str(item.edit.prompt), _spans(str(item.edit.prompt), backbone)
    first = size - backbone.tokenizer.num_special_tokens_to_add()
    long_enough = len(spans) >= first + size // 2
    return replace(item, rephrases=(text[spans[first][0] :],) if long_enough else ())


def _continuation(text: str, backbone: Backbone) -> Question | None:
    spans = _spans(text, backbone)[: WEB_PROMPT + WEB_TARGET]
    if len(spans) <= WEB_PROMPT:
        return None
    end = spans[WEB_PROMPT - 1][1]
    return Question(text[:end], (text[end : spans[-1][1]],))


def target_ids(backbone: Backbone, encoded: Encoded, text: str) -> list[int]:
    """Return the tokens of an answer without the token that ends it."""
    return [token for token in backbone.encode_target(text, encoded) if token not in backbone.stop_ids]


def reference_ids(backbone: Backbone, encoded: Encoded, answer: str) -> list[int]:
    """Return the first tokens of the base model's answer to a prompt, at least one."""
    try:
        ids = target_ids(backbone, encoded, answer)
    except EditError:  # the answer is empty, or its text does not give its tokens back
        ids = list(backbone.tokenizer(answer, add_special_tokens=False)["input_ids"]) if not backbone.documents else []
    return ids[:REFERENCE_TOKENS] or list(backbone.stop_ids[:1]) or [0]
