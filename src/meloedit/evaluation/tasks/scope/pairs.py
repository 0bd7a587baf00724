"""Reader of the task ``pairs``: two prompts each, and whether they ask the same; an edit of one, asked with the other.

Each pair is an item: an edit of ``a``, alone in its group, and ``b`` as a rephrasing or as a near prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ....edit import prompt_key
from ....errors import EditError
from ..data_files import DataFile, edits_of
from ..drafts import Contents, Draft, make_edit
from ..records import Record
from ..task import FarPrompt, Item

PAIRS_RULE = (
    "A pair that says an earlier one's prompts again in the same order goes (duplicates; contradictory if 'same' is "
    "another), and one whose two prompts are equal (equal_prompts); case and white space at the ends do not count."
)
TARGET = "yes"
"""The target of every edit: nothing is trained."""
CATEGORIES = ("category", "why")
"""The fields that name a pair's category; the first that a row has counts."""


def read_pairs(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read pairs of prompts; the category is the kind of ``b``.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for number, record in enumerate(record for file in edits_of(files) for record in file.rows):
        asked, same = record.prompt("b"), _same(record)
        edit = make_edit(record.where, record.prompt("a"), TARGET, f"pair-{number}")
        category = next((record.text(name) for name in CATEGORIES if name in record), None)
        kinds = {prompt_key(asked): category} if category else {}
        prompts: dict[str, Any] = {"rephrases" if same else "near": (asked,)}
        contents.drafts.append(Draft(Item(edit, **prompts, group=number, kinds=kinds), record.where))
    return contents


def clean_pairs(
    drafts: Iterable[Draft], far: Iterable[FarPrompt], paper: bool = False
) -> tuple[list[Item], list[FarPrompt], dict[str, int]]:
    """Apply ``PAIRS_RULE``; return the items, the far prompts, and how many pairs were left out for each fault."""
    counts = {"duplicates": 0, "contradictory": 0, "equal_prompts": 0}
    seen: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        (asked,) = (*draft.item.rephrases, *draft.item.near)
        key = prompt_key(draft.item.edit.prompt).casefold(), prompt_key(asked).casefold()
        first = seen.get(key)
        if key[0] == key[1]:
            counts["equal_prompts"] += 1
        elif first is None:
            seen[key] = draft
        else:
            counts["duplicates" if bool(first.item.near) == bool(draft.item.near) else "contradictory"] += 1
    return [draft.item for draft in seen.values()], list(far), counts


def _same(record: Record) -> bool:
    value = record.get("same")
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise EditError(f"{record.where}: same must be true or false, not {value!r}")
