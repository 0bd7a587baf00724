"""The files of a task: fetched, read, and recognised by the fields of their first row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import EditError
from ...readers import open_text
from .datasets import _Row, _rows

LEAST_WORDS = 5
"""Words of a sentence of plain text."""
HUB = "hf://datasets/"
QUESTIONS = ("zsre", "counterfact", "mquake")
ALL = (*QUESTIONS, "scotus", "hallucination")


@dataclass(frozen=True)
class Shape:
    """A kind of file.

    Attributes:
        name: its name.
        role: what its rows are for.
        needs: fields by which its first row is known.
        tasks: the tasks that read it.
        alone: whether the row has no other field.
    """

    name: str
    role: str
    needs: tuple[str, ...]
    tasks: tuple[str, ...]
    alone: bool = False

    def lacks(self, values: Mapping[str, Any]) -> list[str]:
        """Return the needed fields that a row does not have."""
        return [name for name in self.needs if values.get(name) is None]

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a row is of this kind."""
        return not self.lacks(values) and (not self.alone or len(values) == len(self.needs))


SHAPES = (
    Shape("canonical", "edits", ("prompt", "target"), ("zsre", "counterfact")),
    Shape("mend", "edits", ("src", "answers"), ("zsre",)),
    Shape("passages", "edits", ("prompt", "target_new", "bio_index"), ("hallucination",)),
    Shape(
        "counterfact flat", "edits", ("prompt", "target_new", "rephrase_prompt", "locality_prompt"), ("counterfact",)
    ),
    Shape("knowedit", "edits", ("prompt", "target_new", "ground_truth"), ("zsre",)),
    Shape("counterfact full", "edits", ("requested_rewrite", "paraphrase_prompts"), ("counterfact",)),
    Shape("mquake", "edits", ("requested_rewrite", "questions", "new_answer"), ("mquake",)),
    Shape("cases", "edits", ("case_id", "text", "issue_area_id"), ("scotus",)),
    Shape("biographies", "biographies", ("index", "gpt3_sentences", "annotation"), ("hallucination",)),
    Shape("nq", "far", ("question", "answer"), ALL),
    Shape("web", "web", ("text",), ALL, alone=True),
)
"""The kinds of file; a row is of the first that fits."""


@dataclass(frozen=True)
class Source:
    """A file that was read.

    Attributes:
        name: its name without folders.
        path: where it lies.
        shape: what kind it is.
        rows: its rows.
        sha256: the digest of its bytes.
    """

    name: str
    path: Path
    shape: Shape
    rows: list[_Row]
    sha256: str

    def summary(self) -> dict[str, Any]:
        """Return what a report says of the file."""
        return {"name": self.name, "role": self.shape.role, "sha256": self.sha256, "rows": len(self.rows)}


def open_source(path: str, task: str) -> Source:
    """Read a file of a task.

    Raises:
        EditError: if it cannot be fetched or read, or its first row is none that the task reads.
    """
    local = _local(path)
    try:
        with open(local, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EditError(f"{path}: cannot be read ({error.strerror})") from None
    plain = local.name.removesuffix(".gz").endswith(".txt")
    rows = list(_sentences(local) if plain else _rows(local))
    return Source(Path(path).name, local, _recognise(rows[0], task), rows, digest)


def task_of(path: str) -> str:
    """Return a task of questions that reads a file's rows as edits.

    Raises:
        EditError: if there is none.
    """
    row = next(_rows(_local(path)))
    found = next((shape for shape in SHAPES if shape.fits(row.values)), None)
    if found is None or found.role != "edits" or found.tasks[0] not in QUESTIONS:
        raise EditError(
            f"{row.where}: no edit of {', '.join(QUESTIONS)}; its fields: {', '.join(map(str, row.values))}"
        )
    return found.tasks[0]


def _sentences(path: Path) -> Iterator[_Row]:
    """Yield the sentences of plain text such as WikiText's: headings and what holds an unknown word are left out."""
    found = False
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            for sentence in re.split(r"(?<=[.!?]) +", line.strip()):
                text = re.sub(r" @(.)@ ", r"\1", sentence).strip()
                text = re.sub(r" ([,.;:!?)])", r"\1", text.replace("( ", "("))
                if len(text.split()) >= LEAST_WORDS and "<unk>" not in text and not text.startswith("="):
                    found = True
                    yield _Row(f"{path}, line {number}", {"text": text})
    if not found:
        raise EditError(f"{path}: no sentences of {LEAST_WORDS} words or more in it")


def _recognise(row: _Row, task: str) -> Shape:
    found = next((shape for shape in SHAPES if shape.fits(row.values)), None)
    if found is not None and task in found.tasks:
        return found
    edits = [shape.lacks(row.values) for shape in SHAPES if shape.role == "edits" and task in shape.tasks]
    nearest = min(filter(None, edits), key=lambda missing: len(missing), default=["known row"])
    fits = f"fit task {' or '.join(found.tasks)}" if found else "fit no task"
    fields = ", ".join(map(str, row.values)) or "none"
    raise EditError(f"{row.where}: no {' and no '.join(nearest)} for task {task}; its fields ({fields}) {fits}")


def _local(path: str) -> Path:
    """Return where a file lies, fetched from the hub first where its name says so."""
    if not path.startswith("hf://"):
        return Path(path)
    parts = path.removeprefix(HUB).split("/", 2)
    if not path.startswith(HUB) or len(parts) < 3 or not all(parts):
        raise EditError(f"{path}: a file of the hub is written {HUB}OWNER/NAME/FILE")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id="/".join(parts[:2]), filename=parts[2], repo_type="dataset"))
    except Exception as error:  # its HTTP library's errors have no common class that all versions share
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EditError(f"{path}: cannot be fetched from the hub ({reason})") from None
