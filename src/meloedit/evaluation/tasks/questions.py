"""Questions and cloze prompts with a short answer: zsRE, CounterFact and MQuAKE in the forms they are handed on in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from ...edit import EVALUATION_FIELDS, FIELDS
from ...errors import EditError
from .cleaning import Draft, distinct, make_edit
from .datasets import _Row
from .sources import Source
from .task import Item, Probe

LEAD_IN = re.compile(r"^nq question:\s*", re.IGNORECASE)
"""What MEND puts before the NQ questions that it checks locality with."""


@dataclass(frozen=True)
class Fact:
    """A row, whatever its form: ``true`` are the answers that hold without the edit, ``own`` far prompts."""

    prompt: str
    target: str
    true: tuple[str, ...] = ()
    rephrases: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    attribute: tuple[str, ...] = ()
    portability: tuple[Probe, ...] = ()
    own: tuple[str, ...] = ()


def read_questions(
    task: str, edits: Sequence[Source], paper: bool
) -> tuple[list[Draft], list[str], dict[int | None, tuple[Probe, ...]]]:
    """Read the edits of a task of questions.

    With ``paper``, a zsRE edit goes toward the first true answer where the row has one; questions about what follows
    from the row's own target are then left out. Of CounterFact's prompts the neighbourhood is ``near``; the attribute
    prompts are about other subjects, of which the target is true.

    Returns:
        The items; the far prompts that came with them; the questions about what follows from each group of edits.
    """
    drafts: list[Draft] = []
    own: list[str] = []
    probes: dict[int | None, tuple[Probe, ...]] = {}
    rows = ((source.shape.name, row) for source in edits for row in source.rows)
    for number, (shape, row) in enumerate(rows):
        if shape == "mquake":
            case, follows = row.number("case_id"), _multi_hop(row)
            probes.setdefault(case, follows)
            drafts.extend(_rewrites(row, case))
            continue
        fact = READERS[shape](row, paper and task == "zsre")
        edit = make_edit(row.where, fact.prompt, fact.target, _id(row, task, number))
        item = Item(edit, fact.rephrases, fact.near, fact.attribute, fact.portability, subject=_subject(row))
        drafts.append(Draft(item, row.where, fact.true))
        own.extend(fact.own)
    return drafts, distinct(own), probes


def _canonical(row: _Row, paper: bool) -> Fact:
    _check_fields(row)
    true, target = _leaves(row, "target_true"), row.text("target")
    names = ("rephrases", "near", "attribute", "far")
    rephrases, near, attribute, own = (row.texts(name) if name in row else () for name in names)
    return _toward(paper, Fact(row.text("prompt"), target, true, rephrases, near, attribute, _portability(row), own))


def _check_fields(row: _Row) -> None:
    """Refuse a field of a canonical row that nothing reads: its prompts would be missing from the scores unsaid."""
    known = (*FIELDS, *sorted(EVALUATION_FIELDS))
    for name in row.values:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise EditError(f"{row.where}: unknown field {name!r} ({advice}; other data go into 'metadata')")


def _mend(row: _Row, paper: bool) -> Fact:
    true = row.some("answers")
    empty = "alt" in row and row.values["alt"] == ""  # a handful of MEND's rows: nothing to edit toward
    target = true[0] if paper or empty else row.text("alt")
    own = tuple(LEAD_IN.sub("", text.strip()) for text in _leaves(row, "loc"))
    rephrases, follows = _leaves(row, "rephrase"), _portability(row)
    return _toward(paper, Fact(row.text("src"), target, true, rephrases, portability=follows, own=own))


def _knowedit(row: _Row, paper: bool) -> Fact:
    locality = _inside(row, "locality") if "locality" in row else _Row(row.where, {})
    near = [_entry(entry).text("prompt") for entry in _entries(locality, "Relation_Specificity")]
    rephrases = (*_leaves(row, "rephrase_prompt"), *_leaves(row, "generate_prompt"))
    true, follows = _leaves(row, "ground_truth"), _portability(row)
    prompt, target = row.text("prompt"), row.text("target_new")
    return _toward(paper, Fact(prompt, target, true, rephrases, tuple(near), portability=follows))


def _flat(row: _Row, paper: bool) -> Fact:
    prompt, target = row.text("prompt"), row.text("target_new")
    true, rephrases, near = (_leaves(row, name) for name in ("ground_truth", "rephrase_prompt", "locality_prompt"))
    return Fact(prompt, target, true, rephrases, near, portability=_portability(row))


def _full(row: _Row, paper: bool) -> Fact:
    prompt, target, true, _ = _rewrite(_inside(row, "requested_rewrite"))
    names = ("neighborhood_prompts", "attribute_prompts")
    near, attribute = (row.texts(name) if name in row else () for name in names)
    return Fact(prompt, target, true, row.texts("paraphrase_prompts"), near, attribute, _portability(row))


READERS = {
    "canonical": _canonical,
    "mend": _mend,
    "knowedit": _knowedit,
    "counterfact flat": _flat,
    "counterfact full": _full,
}


def _toward(paper: bool, fact: Fact) -> Fact:
    """Return the fact with the true answer as its target, if that is what is edited toward and it is known."""
    if not paper or not fact.true:
        return fact
    return replace(fact, target=fact.true[0], portability=())


def _rewrites(row: _Row, case: int) -> Iterator[Draft]:
    rewrites = row.values["requested_rewrite"]
    if not isinstance(rewrites, list) or not rewrites:
        raise EditError(f"{row.where}: requested_rewrite must be a list of rewrites with at least one")
    for i, values in enumerate(rewrites):
        inner = _Row(f"{row.where}: requested_rewrite[{i}]", values)
        prompt, target, true, subject = _rewrite(inner)
        edit = make_edit(inner.where, prompt, target, f"mq-{case}-{i}")
        yield Draft(Item(edit, (inner.text("question"),), group=case, subject=subject), inner.where, true)


def _multi_hop(row: _Row) -> tuple[Probe, ...]:
    answers = tuple(distinct((row.text("new_answer"), *_leaves(row, "new_answer_alias"))))
    return tuple(Probe(question, answers) for question in row.some("questions"))


def _rewrite(row: _Row) -> tuple[str, str, tuple[str, ...], str]:
    """Return the prompt with the subject in its place, the target, the true answers, and the subject."""
    prompt, subject = row.text("prompt"), row.text("subject")
    if "{}" not in prompt:
        raise EditError(f"{row.where}: prompt must hold {{}} where the subject goes, not {prompt!r}")
    true = _leaves(_inside(row, "target_true"), "str") if "target_true" in row else ()
    return prompt.replace("{}", subject), _inside(row, "target_new").text("str"), true, subject


def _id(row: _Row, task: str, number: int) -> str:
    """Return the row's own id, or the case's number, or the row's."""
    given = row.values.get("id")
    if given is None:
        case = task == "counterfact" and "case_id" in row
        return f"cf-{row.values['case_id']}" if case else f"{'cf' if task == 'counterfact' else task}-{number}"
    if isinstance(given, bool) or not isinstance(given, (str, int)) or not str(given).strip():
        raise EditError(f"{row.where}: id must be a non-empty string, not {given!r}")
    return str(given)


def _subject(row: _Row) -> str | None:
    inner = row.values.get("requested_rewrite")
    held = _Row(row.where, inner) if isinstance(inner, dict) else row
    return held.text("subject") if "subject" in held else None


def _inside(row: _Row, name: str) -> _Row:
    """Return the object that a field holds; its errors name the field too."""
    return _Row(f"{row.where}: {name}", row._get(name))


def _leaves(row: _Row, name: str) -> tuple[str, ...]:
    """Return the texts of a field that holds one, or a list of them, or lists in lists; empty ones are left out."""
    texts = []
    waiting = [row.values.get(name)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, str):
            texts.append(value)
        elif value is not None:
            raise EditError(f"{row.where}: {name} must be a string or a list of strings, not {value!r}")
    return tuple(text for text in texts if text.strip())


def _entries(row: _Row, name: str) -> list[_Row]:
    """Return the objects in a field: one, a list of them, or lists of them by kind."""
    found = []
    waiting: list[tuple[str, Any]] = [(f"{row.where}: {name}", row.values.get(name))]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, list):
            waiting.extend((where, inner) for inner in reversed(value))
        elif isinstance(value, dict) and value and all(isinstance(inner, list) for inner in value.values()):
            waiting.extend((f"{where}.{kind}", inner) for kind, inner in reversed(value.items()))
        elif value:
            found.append(_Row(where, value))
    return found


def _entry(row: _Row) -> _Row:
    """Return an entry under the names of the canonical form."""
    names = {"New Question": "prompt", "New Answer": "answers", "ground_truth": "answers", "answer": "answers"}
    return _Row(row.where, {names.get(name, name): value for name, value in row.values.items()})


def _portability(row: _Row) -> tuple[Probe, ...]:
    """Return the questions about what follows from an edit; those whose answer is empty cannot be scored."""
    probes = []
    for entry in map(_entry, _entries(row, "portability")):
        entry._get("answers")
        if answers := _leaves(entry, "answers"):
            probes.append(Probe(entry.text("prompt"), answers))
    return tuple(probes)
