"""Texts rather than questions: SCOTUS opinions and their topics, and GPT-3's biographies with Wikipedia's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import EditError
from .cleaning import Draft, make_edit
from .datasets import hallucinations, scotus_cases, split
from .sources import Source
from .task import Item, Probe


@dataclass
class Texts:
    """What a task has besides edits: upstream probes, accurate sentences, and documents that no edit should answer."""

    upstream: list[Probe] = field(default_factory=list)
    accurate: list[Probe] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)


def read_cases(edits: Sequence[Source]) -> tuple[list[Draft], Texts]:
    """Read SCOTUS cases: the later years are edited, the training years must stay right.

    An edit's prompt is the whole text, its target the topic; rephrasings are made later, of the text's further part.
    """
    drafts: list[Draft] = []
    texts = Texts()
    for source in edits:
        found = split(scotus_cases(source.path))
        for case in found.edits:
            where = f"{source.path}, case_id {case.id}"
            drafts.append(Draft(Item(make_edit(where, case.text, case.topic, case.id)), where))
        texts.upstream.extend(Probe(case.text, (case.topic,)) for case in found.held_out)
        texts.documents.extend(case.text for case in found.train)
    return drafts, texts


def read_passages(edits: Sequence[Source], biographies: Sequence[Source]) -> tuple[list[Draft], Texts]:
    """Read the edits of GPT-3's biographies, and the accurate sentences of all biographies that any of them touches.

    The subject of both is the biography's number.
    """
    for what, sources in (("edits", edits), ("biographies", biographies)):
        if len(sources) != 1:
            given = ", ".join(source.name for source in sources) or "none"
            raise EditError(f"task hallucination: give one file of {what}, not {len(sources)} ({given})")
    sentences, accurate = hallucinations(edits[0].path, biographies[0].path)
    drafts = []
    for i, (row, sentence) in enumerate(zip(edits[0].rows, sentences, strict=True)):
        edit = make_edit(row.where, sentence.prompt, sentence.target, f"h{i}")
        drafts.append(Draft(Item(edit, subject=str(sentence.bio)), row.where))
    return drafts, Texts(accurate=[Probe(one.prompt, (one.target,), str(one.bio)) for one in accurate])
