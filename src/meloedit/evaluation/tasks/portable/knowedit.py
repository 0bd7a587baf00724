"""KnowEdit: ZsRE, WikiData_recent, WikiData_counterfact and WikiBio in the JSON files that EasyEdit reads.

The fields are those of ``KnowEditDataset`` (zjunlp/EasyEdit, ``easyeditor/dataset/knowedit.py``) and of the rows in its
``examples/KnowEdit.md`` (arXiv 2401.01286). There, too, a question with an empty answer is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....edit import prompt_key
from ..data_files import DataFile, edits_of
from ..drafts import Contents, Draft, make_edit
from ..records import Record
from ..task import Item, Question

WIKIBIO = {"prompt": "text", "target_new": "labels", "subject": "concept"}
"""The fields that WikiBio's rows have under other names."""


def read_knowedit(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read KnowEdit's edits; near prompts and questions that follow have the name of their test as their kind.

    Near prompts are those of ``locality`` (``relation specificity``, ``forgetfulness``), questions that follow those of
    ``portability`` (``reasoning``, ``subject aliasing``, ``logical generalization``).

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for number, record in enumerate(record for file in edits_of(files) for record in file.rows):
        prompt, target, subject = (record.text(_field(record, name)) for name in ("prompt", "target_new", "subject"))
        edit = make_edit(record.where, prompt, target, f"knowedit-{number}", subject)
        near = {text: kind for kind, entry in _tests(record, "locality") for text in entry.leaves("prompt")[:1]}
        item = Item(
            edit,
            rephrases=(*record.leaves("rephrase_prompt"), *record.leaves("generate_prompt")),
            near=tuple(near),
            portability=tuple(_follows(record)),
            subject=subject,
            kinds={prompt_key(text): kind for text, kind in near.items()},
        )
        contents.drafts.append(Draft(item, record.where, record.leaves("ground_truth")))
    return contents


def _field(record: Record, name: str) -> str:
    other = WIKIBIO.get(name, name)
    return other if other in record and name not in record else name


def _follows(record: Record) -> Iterator[Question]:
    for kind, entry in _tests(record, "portability"):
        if answers := entry.leaves("ground_truth"):
            yield Question(entry.text("prompt"), answers, kind=kind)


def _tests(record: Record, name: str) -> Iterator[tuple[str, Record]]:
    """Yield the tests of a field, each with its kind: the field holds a list of tests for each kind."""
    if name not in record:
        return
    by_kind = record.inner(name)
    for kind in by_kind.values:
        for entry in by_kind.entries(kind):
            entry.get("prompt")
            yield str(kind).replace("_", " ").lower(), entry
