"""The files of a task: fetched, read, and recognised by the fields of their first row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import EditError
from ...files import file_sha256
from ...rows import open_utf8, plain_rows
from ...text import fields_found, join_names
from .records import Record, read_records

MIN_WORDS = 5
"""Sentences of plain text with fewer words are skipped."""
HUB = "hf://datasets/"
QUESTION_TASKS = ("zsre", "counterfact", "mquake", "knowedit", "ripple")
DISTRACTOR_TASKS = (*QUESTION_TASKS, "helpdesk")
"""The tasks whose edits can be stored beside another task's."""
LINE_TASKS = ("helpdesk",)
"""The tasks for which a line of plain text is a prompt; for the others plain text is split into sentences."""
ALL_TASKS = (*QUESTION_TASKS, "scotus", "hallucination", "helpdesk")


@dataclass(frozen=True)
class Shape:
    """A format of files.

    Attributes:
        name: its name.
        role: what its rows are for.
        needs: the fields that its first row must have.
        tasks: the tasks that read it.
        alone: whether the row must have no other field, those of ``may`` aside.
        may: fields that such a row may have as well.
    """

    name: str
    role: str
    needs: tuple[str, ...]
    tasks: tuple[str, ...]
    alone: bool = False
    may: tuple[str, ...] = ()

    def lacks(self, values: Mapping[str, Any]) -> list[str]:
        """Return the needed fields that a row does not have."""
        return [name for name in self.needs if values.get(name) is None]

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a row has this format."""
        return not self.lacks(values) and (not self.alone or set(values) <= {*self.needs, *self.may})


SHAPES = (
    Shape("helpdesk", "edits", ("prompt", "target", "rephrasings"), ("helpdesk",)),
    Shape("pairs", "edits", ("a", "b", "same"), ("pairs",)),
    Shape("canonical", "edits", ("prompt", "target"), ("zsre", "counterfact")),
    Shape("mend", "edits", ("src", "answers"), ("zsre",)),
    Shape("passages", "edits", ("prompt", "target_new", "bio_index"), ("hallucination",)),
    Shape(
        "counterfact flat", "edits", ("prompt", "target_new", "rephrase_prompt", "locality_prompt"), ("counterfact",)
    ),
    Shape("knowedit", "edits", ("prompt", "target_new", "ground_truth"), ("zsre", "knowedit")),
    Shape("knowedit recent", "edits", ("prompt", "target_new", "locality"), ("knowedit",)),
    Shape("knowedit wikibio", "edits", ("text", "labels", "concept"), ("knowedit",)),
    Shape("ripple", "edits", ("edit", "Logical_Generalization"), ("ripple",)),
    Shape("counterfact full", "edits", ("requested_rewrite", "paraphrase_prompts"), ("counterfact",)),
    Shape("mquake", "edits", ("requested_rewrite", "questions", "new_answer"), ("mquake",)),
    Shape("cases", "edits", ("case_id", "text", "issue_area_id"), ("scotus",)),
    Shape("biographies", "biographies", ("index", "gpt3_sentences", "annotation"), ("hallucination",)),
    Shape("nq", "far", ("question", "answer"), ALL_TASKS),
    Shape("unrelated", "far", ("prompt",), ("helpdesk",), alone=True, may=("id", "lang", "domain", "metadata")),
    Shape("web", "web", ("text",), ALL_TASKS, alone=True),
)
"""The known formats; a row has the first that fits."""


@dataclass(frozen=True)
class DataFile:
    """A file after reading.

    Attributes:
        name: its name without folders.
        path: its local path.
        shape: its format.
        rows: its rows.
        sha256: the hash of its bytes.
    """

    name: str
    path: Path
    shape: Shape
    rows: list[Record]
    sha256: str

    def summary(self) -> dict[str, Any]:
        """Return the file's entry in a result."""
        return {"name": self.name, "role": self.shape.role, "sha256": self.sha256, "rows": len(self.rows)}


def open_data_file(path: str, task: str) -> DataFile:
    """Read a file of a task.

    Args:
        path: a local path, or ``hf://datasets/OWNER/NAME/FILE``.
        task: the task's name.

    Raises:
        EditError: if it cannot be fetched or read, or the task does not read files of its format.
    """
    local = _local(path)
    checksum = file_sha256(local, path)
    plain = local.name.removesuffix(".gz").endswith(".txt")
    read_text = _lines if task in LINE_TASKS else _sentences
    rows = list(read_text(local) if plain else read_records(local))
    return DataFile(Path(path).name, local, _recognise(rows[0], task), rows, checksum)


def edits_of(files: Iterable[DataFile]) -> list[DataFile]:
    """Return the files whose rows are edits."""
    return [file for file in files if file.shape.role == "edits"]


def task_of(path: str) -> str:
    """Return the first task of questions or requests that reads a file's rows as edits.

    Raises:
        EditError: if there is none.
    """
    record = next(read_records(_local(path)))
    shape = _shape_of(record)
    if shape is None or shape.role != "edits" or shape.tasks[0] not in DISTRACTOR_TASKS:
        raise EditError(f"{record.where}: no edit of {', '.join(DISTRACTOR_TASKS)} {fields_found(record.values)}")
    return shape.tasks[0]


def _shape_of(record: Record) -> Shape | None:
    return next((shape for shape in SHAPES if shape.fits(record.values)), None)


def _sentences(path: Path) -> Iterator[Record]:
    """Yield the sentences of plain text such as WikiText's, without headings and sentences with unknown words."""
    empty = True
    with open_utf8(path, str(path)) as stream:
        for where, line in plain_rows(stream, str(path)):
            for sentence in re.split(r"(?<=[.!?]) +", line):
                text = re.sub(r" @(.)@ ", r"\1", sentence).strip()
                text = re.sub(r" ([,.;:!?)])", r"\1", text.replace("( ", "("))
                if len(text.split()) >= MIN_WORDS and "<unk>" not in text and not text.startswith("="):
                    empty = False
                    yield Record(where, {"text": text})
    if empty:
        raise EditError(f"{path}: no sentences of {MIN_WORDS} words or more in it")


def _lines(path: Path) -> Iterator[Record]:
    """Yield the lines of plain text that are not blank, each as a prompt."""
    empty = True
    with open_utf8(path, str(path)) as stream:
        for where, text in plain_rows(stream, str(path)):
            empty = False
            yield Record(where, {"prompt": text})
    if empty:
        raise EditError(f"{path}: no lines with text in it")


def _recognise(record: Record, task: str) -> Shape:
    shape = _shape_of(record)
    if shape is not None and task in shape.tasks:
        return shape
    lacking = [one.lacks(record.values) for one in SHAPES if one.role == "edits" and task in one.tasks]
    nearest = min(filter(None, lacking), key=lambda missing: len(missing), default=["known row"])
    fits = f"fit task {' or '.join(shape.tasks)}" if shape else "fit no task"
    fields = join_names([str(name) for name in record.values], 12) or "none"
    raise EditError(f"{record.where}: no {' and no '.join(nearest)} for task {task}; its fields ({fields}) {fits}")


def _local(path: str) -> Path:
    """Return a file's local path, after fetching it if the path names a file of the hub."""
    if not path.startswith("hf://"):
        return Path(path)
    parts = path.removeprefix(HUB).split("/", 2)
    if not path.startswith(HUB) or len(parts) < 3 or not all(parts):
        raise EditError(f"{path}: a file of the hub is written {HUB}OWNER/NAME/FILE")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id="/".join(parts[:2]), filename=parts[2], repo_type="dataset"))
    except Exception as error:  # the errors of its HTTP library share no class across versions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EditError(f"{path}: cannot be fetched from the hub ({reason})") from None
