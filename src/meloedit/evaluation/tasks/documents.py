"""Readers of the tasks with long texts: SCOTUS opinions with topics, and corrections of GPT-3's biographies."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import EditError
from .data_files import DataFile, edits_of
from .datasets import hallucinations, scotus_cases, split
from .drafts import Contents, Draft, make_edit
from .task import Item, Question


def read_scotus(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read SCOTUS cases: later years are the edits, held-out cases of the training years must stay right.

    An edit's prompt is the whole text and its target the topic. Its rephrasing is cut from the text once the model's
    length is known.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for file in edits_of(files):
        cases = split(scotus_cases(file.path))
        for case in cases.edits:
            where = f"{file.path}, case_id {case.id}"
            contents.drafts.append(Draft(Item(make_edit(where, case.text, case.topic, case.id)), where))
        contents.upstream.extend(Question(case.text, (case.topic,)) for case in cases.held_out)
        contents.documents.extend(case.text for case in cases.train)
    return contents


def read_hallucination(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read corrections of GPT-3's biographies, and the accurate sentences of the same biographies.

    The subject of each is the biography's number.

    Raises:
        EditError: if there is not one file of each kind; naming file, line and field, if a row is unusable.
    """
    edits, biographies = edits_of(files), [file for file in files if file.shape.role == "biographies"]
    for role, those in (("edits", edits), ("biographies", biographies)):
        if len(those) != 1:
            given = ", ".join(file.name for file in those) or "none"
            raise EditError(f"task hallucination: give one file of {role}, not {len(those)} ({given})")
    sentences, accurate = hallucinations(edits[0].path, biographies[0].path)
    drafts = []
    for i, (record, sentence) in enumerate(zip(edits[0].rows, sentences, strict=True)):
        edit = make_edit(record.where, sentence.prompt, sentence.target, f"h{i}")
        drafts.append(Draft(Item(edit, subject=str(sentence.bio)), record.where))
    return Contents(drafts, accurate=[Question(one.prompt, (one.target,), str(one.bio)) for one in accurate])
