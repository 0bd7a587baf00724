"""Edits to measure with, read from data files and prepared for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from meloedit import Edit, Editor
from meloedit.backbones.batch import Example
from meloedit.engine.planning import Planner
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.rows import json_rows, open_text


def read_jsonl(path: str | Path, count: int | None = None) -> list[dict[str, Any]]:
    """Read the first ``count`` objects of a JSONL file, gzipped or not."""
    with open_text(path) as stream:
        return [row for _, row in islice(json_rows(stream, str(path)), count)]


def numbered_edits(path: str | Path, count: int) -> list[Edit]:
    """Read the first ``count`` edits of a JSONL file with ``prompt`` and ``target``; their ids are their numbers."""
    return [Edit(row["prompt"], row["target"], id=str(i)) for i, row in enumerate(read_jsonl(path, count))]


def distinct_edits(paths: Sequence[str]) -> list[Edit]:
    """Read the edits of evaluation files, one for each prompt; their ids are their numbers."""
    tasks = [load_task(task_of(path), [path], 0, "routing") for path in paths]
    edits = {item.edit.prompt: item.edit for task in tasks for item in task.items}
    return [replace(edit, id=str(i)) for i, edit in enumerate(edits.values())]


def training_examples(editor: Editor, edits: Sequence[Edit]) -> list[tuple[str, list[Example]]]:
    """Return the id of each edit and the examples that its block is trained on, as ``Editor.edit`` prepares them."""
    return [(prepared.edit.id, prepared.rows) for prepared in Planner(editor.engine, keeping_both=True).prepare(edits)]
