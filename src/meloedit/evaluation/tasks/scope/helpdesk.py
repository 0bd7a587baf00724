"""Reader of the task ``helpdesk``: questions as users of an assistant ask them, each prompt with its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from ....edit import prompt_key
from ....errors import EditError
from ....types import Prompt
from ..data_files import DataFile, edits_of
from ..drafts import Contents, Draft, make_edit
from ..records import Record
from ..task import Item

CLOSE, FAR, TERSE, OTHER = "close", "far", "terse", "other form"
"""Kinds of rephrasings: near in wording, far from it, typed like a search, and any other form."""
CHAT, PRONOUN = "chat", "pronoun"
"""Kinds of chats: the last turn asks the question in full, or with a pronoun for its subject."""
HARD, EASY, RELATION = "same subject hard", "same subject easy", "same relation"
"""Kinds of near prompts: another question about the subject, of a like answer or not; the question about another."""
CONTAINS, OTHER_CHAT = "contains", "other chat"
"""Further kinds of near prompts: a text that holds the question or the fact and asks something else, and a chat."""
INSIDE = "asks inside"
"""A further kind of rephrasing: a longer text that asks the question in it."""
NEAR_FIELDS = {"near_same_relation": RELATION, "contains": CONTAINS, "chat_other": OTHER_CHAT}
REPHRASE_FIELDS = {"asks_inside": INSIDE}
PROMPT_FIELDS = (
    "rephrasings",
    "rephrasing_kinds",
    "near_same_subject",
    *NEAR_FIELDS,
    *REPHRASE_FIELDS,
    "multi_turn",
    "pronoun_turn",
    "chat_same",
)
KNOWN = ("id", "domain", "lang", "subject", "prompt", "target", *PROMPT_FIELDS)
"""The fields that are read; others are ignored unless they look like a misspelt one."""
ALIKE = 0.8
"""How like a known field's name an unknown one must be to count as misspelt (difflib's ratio)."""
ENGLISH = "en"


def read_helpdesk(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read the edits of a help desk with their prompts.

    Rephrasings are of the kinds that ``rephrasing_kinds`` names, else of those that ``kinds_by_place`` gives. The first
    half of ``near_same_subject`` is hard (the middle one of an odd number too), the rest easy.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for number, record in enumerate(record for file in edits_of(files) for record in file.rows):
        _check_fields(record)
        name = str(record.values["id"]) if "id" in record else f"helpdesk-{number}"
        subject = record.text("subject") if "subject" in record else None
        edit = make_edit(record.where, record.prompt("prompt"), record.text("target"), name, subject)
        rephrases, near, chats = _rephrases(record), _near(record), _chats(record)
        item = Item(
            edit,
            rephrases=tuple(prompt for prompt, _ in rephrases),
            near=tuple(prompt for prompt, _ in near),
            chats=tuple(prompt for prompt, _ in chats),
            subject=subject,
            kinds={prompt_key(prompt): kind for prompt, kind in (*near, *chats, *rephrases)},
            lang=_language(record),
        )
        contents.drafts.append(Draft(item, record.where))
    return contents


def kinds_by_place(count: int) -> list[str]:
    """Return the kinds of ``count`` rephrasings by their place.

    The first two are close. Of four or fewer the third is far and the fourth terse. Of five or more the third and
    fourth are far, then come further far ones, and at the end a terse one; of six or more the last is of another form.
    """
    if count <= 4:
        return [CLOSE, CLOSE, FAR, TERSE][:count]
    end = [TERSE] if count == 5 else [TERSE, OTHER]
    return [CLOSE, CLOSE, *[FAR] * (count - 2 - len(end)), *end]


def _rephrases(record: Record) -> list[tuple[Prompt, str]]:
    record.get("rephrasings")
    prompts = record.prompts("rephrasings")
    if "rephrasing_kinds" in record:
        kinds = list(record.texts("rephrasing_kinds"))
        if len(kinds) != len(prompts):
            raise EditError(f"{record.where}: {len(prompts)} rephrasings and {len(kinds)} rephrasing_kinds")
    else:
        kinds = kinds_by_place(len(prompts))
    return list(zip(prompts, kinds, strict=True)) + _of_fields(record, REPHRASE_FIELDS)


def _near(record: Record) -> list[tuple[Prompt, str]]:
    prompts = record.prompts("near_same_subject")
    hard = (len(prompts) + 1) // 2
    kinds = [HARD] * hard + [EASY] * (len(prompts) - hard)
    return list(zip(prompts, kinds, strict=True)) + _of_fields(record, NEAR_FIELDS)


def _chats(record: Record) -> list[tuple[Prompt, str]]:
    chats = [(record.prompt(name), kind) for name, kind in _TURNS.items() if name in record]
    return chats + [(prompt, CHAT) for prompt in record.prompts("chat_same")]


_TURNS = {"multi_turn": CHAT, "pronoun_turn": PRONOUN}


def _of_fields(record: Record, fields: Mapping[str, str]) -> list[tuple[Prompt, str]]:
    return [(prompt, kind) for name, kind in fields.items() for prompt in record.prompts(name)]


def _language(record: Record) -> str | None:
    """Return the language without its region (``en`` of ``en-GB``), in lower case."""
    if "lang" not in record:
        return None
    return record.text("lang").strip().replace("_", "-").split("-")[0].casefold()


def _check_fields(record: Record) -> None:
    """Refuse a field that looks like a misspelt one: its prompts would silently be missing from the scores."""
    for name in map(str, record.values):
        extends = any(name.startswith(f"{known}_") for known in KNOWN)  # a note on a field, as pronoun_turn_hard
        if name not in KNOWN and not extends and (like := get_close_matches(name, PROMPT_FIELDS, 1, ALIKE)):
            raise EditError(f"{record.where}: unknown field {name!r} (did you mean {like[0]!r}?)")
    given = record.values.get("id")
    if given is not None and (isinstance(given, bool) or not isinstance(given, (str, int)) or not str(given).strip()):
        raise EditError(f"{record.where}: id must be a non-empty string, not {given!r}")
