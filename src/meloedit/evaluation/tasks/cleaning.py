"""What is left out of a task before it is scored, by one stated rule for each fault, and counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...edit import Edit, prompt_key
from ...errors import EditError
from ...types import Prompt
from .task import Far, Item

RULE = (
    "An edit goes that an earlier one already makes (duplicates), whose target is true already or empty (no_op), or "
    "that asks an earlier one's prompt, or has its subject and true answer, with another target (contradictory). A "
    "rephrasing goes that another target's edit is asked with (ambiguous_rephrases) or that says its own edit's words "
    "again (repeated_rephrases), and a near or far prompt that is also the prompt or a rephrasing of an edit "
    "(ambiguous_near, ambiguous_far); items of different groups are not compared as edits."
)
FAULTS = (
    "duplicates",
    "no_op",
    "contradictory",
    "ambiguous_rephrases",
    "repeated_rephrases",
    "ambiguous_near",
    "ambiguous_far",
)


@dataclass(frozen=True)
class Draft:
    """An item as it was read, where it was read, and the answers that are true without the edit, if known."""

    item: Item
    where: str
    true: tuple[str, ...] = ()


def make_edit(where: str, prompt: str, target: str, name: str) -> Edit:
    """Return an edit; where its texts are not usable, the error says where they are from."""
    try:
        return Edit(prompt, target, name)
    except EditError as error:
        raise EditError(f"{where}: {error}") from None


def clean(
    drafts: Iterable[Draft], far: Iterable[Far], paper: bool = False
) -> tuple[list[Item], list[Far], dict[str, int]]:
    """Leave out what the rule says.

    Args:
        drafts: the items as read; of two that do not go together the earlier stays.
        far: the far prompts.
        paper: whether edits are meant to make the model say what is true, so that none of them is a ``no_op``.

    Returns:
        The items, the far prompts, and how many were left out for each fault.
    """
    counts = dict.fromkeys(FAULTS, 0)
    items = _rephrased(_distinct(drafts, paper, counts), counts)
    asked = {_key(prompt) for item, given in items for prompt in (item.edit.prompt, *given)}
    kept = []
    for item, _ in items:
        near, attribute = (
            tuple(prompt for prompt in given if _key(prompt) not in asked) for given in (item.near, item.attribute)
        )
        counts["ambiguous_near"] += len(item.near) - len(near)
        kept.append(replace(item, near=near, attribute=attribute))
    before = list(far)
    after = [one for one in before if _key(one.prompt) not in asked]
    counts["ambiguous_far"] = len(before) - len(after)
    return kept, after, counts


def distinct(prompts: Iterable[str]) -> list[str]:
    """Return prompts without those that say again what an earlier one said."""
    first: dict[str, str] = {}
    for prompt in prompts:
        first.setdefault(_key(prompt), prompt)
    return list(first.values())


def _key(prompt: Prompt) -> str:
    return prompt_key(prompt).casefold()


def _folded(text: str) -> str:
    return text.strip().casefold()


def _distinct(drafts: Iterable[Draft], paper: bool, counts: dict[str, int]) -> list[Item]:
    """Leave out edits that are there already, change nothing, or contradict an earlier one of their group."""
    targets: dict[tuple[int | None, str], str] = {}
    facts: dict[tuple[int | None, str, str], str] = {}
    kept = []
    for draft in drafts:
        item = draft.item
        asked, target = (item.group, _key(item.edit.prompt)), _folded(item.edit.target)
        true = {_folded(answer) for answer in draft.true}
        own = [(item.group, _folded(item.subject), answer) for answer in true] if item.subject else []
        if targets.get(asked) == target:
            counts["duplicates"] += 1
        elif target in true and not paper:
            counts["no_op"] += 1
        elif asked in targets or any(facts.get(fact, target) != target for fact in own):
            counts["contradictory"] += 1
        else:
            targets[asked] = target
            facts.update(dict.fromkeys(own, target))
            kept.append(item)
    return kept


def _rephrased(items: Sequence[Item], counts: dict[str, int]) -> list[tuple[Item, tuple[str, ...]]]:
    """Leave out rephrasings that ask for two targets, and repeated ones; the given rephrasings come with each item."""
    wanted: dict[tuple[int | None, str], set[str]] = {}
    for item in items:
        for prompt in (item.edit.prompt, *item.rephrases):
            wanted.setdefault((item.group, _key(prompt)), set()).add(_folded(item.edit.target))
    kept = []
    for item in items:
        seen, rephrases = {_key(item.edit.prompt)}, []
        for prompt in item.rephrases:
            key = _key(prompt)
            if key in seen:
                counts["repeated_rephrases"] += 1
            elif len(wanted[item.group, key]) > 1:
                counts["ambiguous_rephrases"] += 1
            else:
                rephrases.append(prompt)
            seen.add(key)
        kept.append((replace(item, rephrases=tuple(rephrases)), item.rephrases))
    return kept
