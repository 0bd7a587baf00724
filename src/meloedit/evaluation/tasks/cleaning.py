"""Cleaning of a task: leaves out faulty edits and prompts by one stated rule for each fault, and counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...edit import prompt_key
from ...types import Prompt
from .drafts import Draft
from .scope.own_question import asks_own_question
from .task import FarPrompt, Item

RULE = (
    "An edit goes that an earlier one already makes (duplicates), whose target is true already or empty (no_op), or "
    "that asks an earlier one's prompt, or has its subject and true answer, with another target (contradictory). A "
    "rephrasing goes that another target's edit is asked with (ambiguous_rephrases) or that says its own edit's words "
    "again (repeated_rephrases), and a near or far prompt that is also the prompt or a rephrasing of an edit "
    "(ambiguous_near, ambiguous_far); items of different groups are not compared as edits."
)
OWN_QUESTION_RULE = (
    " A near prompt that names the edit's subject goes (own_question_near) if each of its words, the subject aside and "
    "from the sentence that first names it on, is a word of the edit's prompt or of a rephrasing: it asks the edit's "
    "own question."
)
FAULTS = (
    "duplicates",
    "no_op",
    "contradictory",
    "ambiguous_rephrases",
    "repeated_rephrases",
    "ambiguous_near",
    "ambiguous_far",
    "own_question_near",
)


def clean(
    drafts: Iterable[Draft], far: Iterable[FarPrompt], paper: bool = False, own_question: bool = False
) -> tuple[list[Item], list[FarPrompt], dict[str, int]]:
    """Apply ``RULE``.

    Args:
        drafts: the items; of two that contradict each other the earlier stays.
        far: the far prompts.
        paper: whether edits go toward the true answer, so that none of them is a ``no_op``.
        own_question: whether ``OWN_QUESTION_RULE`` holds as well.

    Returns:
        The items, the far prompts, and how many were left out for each fault.
    """
    counts = dict.fromkeys(FAULTS, 0)
    distinct_items = _distinct_items(drafts, paper, counts)
    edited = {_key(prompt) for item in distinct_items for prompt in (item.edit.prompt, *item.rephrases)}
    items = []
    for item in _clean_rephrases(distinct_items, counts):
        near, attribute = (
            tuple(prompt for prompt in prompts if _key(prompt) not in edited) for prompts in (item.near, item.attribute)
        )
        counts["ambiguous_near"] += len(item.near) - len(near)
        if own_question:
            others = tuple(prompt for prompt in near if not asks_own_question(item, prompt))
            counts["own_question_near"] += len(near) - len(others)
            near = others
        items.append(replace(item, near=near, attribute=attribute))
    before = list(far)
    after = [one for one in before if _key(one.prompt) not in edited]
    counts["ambiguous_far"] = len(before) - len(after)
    return items, after, counts


def distinct(prompts: Iterable[str]) -> list[str]:
    """Return prompts without repetitions; case and white space do not count."""
    first: dict[str, str] = {}
    for prompt in prompts:
        first.setdefault(_key(prompt), prompt)
    return list(first.values())


def _key(prompt: Prompt) -> str:
    return prompt_key(prompt).casefold()


def _folded(text: str) -> str:
    return text.strip().casefold()


def _distinct_items(drafts: Iterable[Draft], paper: bool, counts: dict[str, int]) -> list[Item]:
    """Leave out edits that repeat an earlier one of their group, change nothing, or contradict an earlier one."""
    targets: dict[tuple[int | None, str], str] = {}
    targets_of_facts: dict[tuple[int | None, str, str], str] = {}
    items = []
    for draft in drafts:
        item = draft.item
        prompt, target = (item.group, _key(item.edit.prompt)), _folded(item.edit.target)
        true = {_folded(answer) for answer in draft.true}
        facts = [(item.group, _folded(item.subject), answer) for answer in true] if item.subject else []
        if targets.get(prompt) == target:
            counts["duplicates"] += 1
        elif target in true and not paper:
            counts["no_op"] += 1
        elif prompt in targets or any(targets_of_facts.get(fact, target) != target for fact in facts):
            counts["contradictory"] += 1
        else:
            targets[prompt] = target
            targets_of_facts.update(dict.fromkeys(facts, target))
            items.append(item)
    return items


def _clean_rephrases(items: Sequence[Item], counts: dict[str, int]) -> list[Item]:
    """Leave out rephrasings that belong to edits with different targets, and repeated ones."""
    targets: dict[tuple[int | None, str], set[str]] = {}
    for item in items:
        for prompt in (item.edit.prompt, *item.rephrases):
            targets.setdefault((item.group, _key(prompt)), set()).add(_folded(item.edit.target))
    cleaned = []
    for item in items:
        seen, rephrases = {_key(item.edit.prompt)}, []
        for prompt in item.rephrases:
            key = _key(prompt)
            if key in seen:
                counts["repeated_rephrases"] += 1
            elif len(targets[item.group, key]) > 1:
                counts["ambiguous_rephrases"] += 1
            else:
                rephrases.append(prompt)
            seen.add(key)
        cleaned.append(replace(item, rephrases=tuple(rephrases)))
    return cleaned
