"""Readers of the tasks with short answers: zsRE and CounterFact, each in all formats that circulate."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from ...edit import EVALUATION_FIELDS, FIELDS
from ...errors import EditError
from .cleaning import distinct
from .data_files import DataFile, edits_of
from .drafts import Contents, Draft, make_edit
from .records import Record
from .task import Item, Question

LEAD_IN = re.compile(r"^nq question:\s*", re.IGNORECASE)
"""The prefix of the NQ questions in MEND's files."""


@dataclass(frozen=True)
class Fact:
    """A row of any format.

    Attributes:
        prompt: the edit's prompt.
        target: the answer that the edit must give.
        true: the answers that hold without the edit.
        rephrases: unseen other wordings of the prompt.
        near: prompts near the edit.
        attribute: prompts about other subjects of which the target is true.
        portability: questions whose answer follows from the edit.
        far: far prompts that stand in the row.
    """

    prompt: str
    target: str
    true: tuple[str, ...] = ()
    rephrases: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    attribute: tuple[str, ...] = ()
    portability: tuple[Question, ...] = ()
    far: tuple[str, ...] = ()


def read_zsre(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read zsRE's edits, or questions of a user in canonical rows.

    Under the protocol ``paper`` an edit goes toward the first true answer where the row has one; questions that follow
    from the row's target are then left out.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    return _read_facts(files, "zsre", paper)


def read_counterfact(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read CounterFact's edits: neighbourhood prompts are near, attribute prompts are true of other subjects.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    return _read_facts(files, "counterfact", False)


def _read_facts(files: Sequence[DataFile], task: str, toward_truth: bool) -> Contents:
    contents = Contents()
    rows = ((file.shape.name, record) for file in edits_of(files) for record in file.rows)
    far: list[str] = []
    for number, (shape, record) in enumerate(rows):
        fact = READERS[shape](record, toward_truth)
        if toward_truth and fact.true:
            fact = replace(fact, target=fact.true[0], portability=())
        subject = _subject(record)
        edit = make_edit(record.where, fact.prompt, fact.target, _id(record, task, number), subject)
        item = Item(edit, fact.rephrases, fact.near, fact.attribute, fact.portability, subject=subject)
        contents.drafts.append(Draft(item, record.where, fact.true))
        far.extend(fact.far)
    contents.far = [*distinct(far)]
    return contents


def _canonical(record: Record, toward_truth: bool) -> Fact:
    _check_fields(record)
    true, target = record.leaves("target_true"), record.text("target")
    names = ("rephrases", "near", "attribute", "far")
    rephrases, near, attribute, far = (record.texts(name) if name in record else () for name in names)
    return Fact(record.text("prompt"), target, true, rephrases, near, attribute, _portability(record), far)


def _check_fields(record: Record) -> None:
    """Refuse unknown fields of a canonical row: their prompts would silently be missing from the scores."""
    known = (*FIELDS, *sorted(EVALUATION_FIELDS))
    for name in record.values:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise EditError(f"{record.where}: unknown field {name!r} ({advice}; other data go into 'metadata')")


def _mend(record: Record, toward_truth: bool) -> Fact:
    true = record.nonempty_texts("answers")
    no_target = "alt" in record and record.values["alt"] == ""  # as in a few of MEND's rows
    target = true[0] if toward_truth or no_target else record.text("alt")
    far = tuple(LEAD_IN.sub("", text.strip()) for text in record.leaves("loc"))
    rephrases, portability = record.leaves("rephrase"), _portability(record)
    return Fact(record.text("src"), target, true, rephrases, portability=portability, far=far)


def _knowedit(record: Record, toward_truth: bool) -> Fact:
    locality = record.inner("locality") if "locality" in record else Record(record.where, {})
    near = [_entry(entry).text("prompt") for entry in locality.entries("Relation_Specificity")]
    rephrases = (*record.leaves("rephrase_prompt"), *record.leaves("generate_prompt"))
    true, portability = record.leaves("ground_truth"), _portability(record)
    prompt, target = record.text("prompt"), record.text("target_new")
    return Fact(prompt, target, true, rephrases, tuple(near), portability=portability)


def _flat(record: Record, toward_truth: bool) -> Fact:
    prompt, target = record.text("prompt"), record.text("target_new")
    true, rephrases, near = (record.leaves(name) for name in ("ground_truth", "rephrase_prompt", "locality_prompt"))
    return Fact(prompt, target, true, rephrases, near, portability=_portability(record))


def _full(record: Record, toward_truth: bool) -> Fact:
    prompt, target, true, _ = rewrite_of(record.inner("requested_rewrite"))
    names = ("neighborhood_prompts", "attribute_prompts")
    near, attribute = (record.texts(name) if name in record else () for name in names)
    return Fact(prompt, target, true, record.texts("paraphrase_prompts"), near, attribute, _portability(record))


READERS: dict[str, Callable[[Record, bool], Fact]] = {
    "canonical": _canonical,
    "mend": _mend,
    "knowedit": _knowedit,
    "counterfact flat": _flat,
    "counterfact full": _full,
}
"""The reader of each format; its second argument says whether the edit goes toward the true answer."""


def rewrite_of(record: Record) -> tuple[str, str, tuple[str, ...], str]:
    """Return the prompt with the subject filled in, the target, the true answers and the subject."""
    prompt, subject = record.text("prompt"), record.text("subject")
    if "{}" not in prompt:
        raise EditError(f"{record.where}: prompt must hold {{}} where the subject goes, not {prompt!r}")
    true = record.inner("target_true").leaves("str") if "target_true" in record else ()
    return prompt.replace("{}", subject), record.inner("target_new").text("str"), true, subject


def _id(record: Record, task: str, number: int) -> str:
    """Return the row's id; else one with the case's number, or the row's."""
    given = record.values.get("id")
    if given is None:
        case = task == "counterfact" and "case_id" in record
        return f"cf-{record.values['case_id']}" if case else f"{'cf' if task == 'counterfact' else task}-{number}"
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not str(given).strip():
        raise EditError(f"{record.where}: id must be a non-empty string, not {given!r}")
    return str(given)


def _subject(record: Record) -> str | None:
    inner = record.values.get("requested_rewrite")
    holder = Record(record.where, inner) if isinstance(inner, dict) else record
    return holder.text("subject") if "subject" in holder else None


def _entry(record: Record) -> Record:
    """Return an entry with the field names of canonical rows."""
    names = {"New Question": "prompt", "New Answer": "answers", "ground_truth": "answers", "answer": "answers"}
    return Record(record.where, {names.get(name, name): value for name, value in record.values.items()})


def _portability(record: Record) -> tuple[Question, ...]:
    """Return the questions whose answer follows from the edit; those with an empty answer cannot be scored."""
    questions = []
    for entry in map(_entry, record.entries("portability")):
        entry.get("answers")
        if answers := entry.leaves("answers"):
            questions.append(Question(entry.text("prompt"), answers))
    return tuple(questions)
