"""What a store holds, as values: records, live edits, changes, revisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..edit import Edit
from .tensors import Tensors


@dataclass(frozen=True)
class Record:
    """A trained edit to be stored: its block, and its keys under the calibration in force.

    An empty ``block`` says that the edit shares the block of the last record before it that has one.
    """

    edit: Edit
    rank: int
    reach: str
    report: dict[str, Any]
    block: Tensors
    keys: Tensors


@dataclass(frozen=True)
class StoredRecord:
    """One version of an edit, live or not, as it was stored."""

    edit: Edit
    block: Tensors
    keys: Tensors


@dataclass(frozen=True)
class StoredEdit:
    """A live edit without its tensors: ``revision`` made it what it is, ``nbytes`` are those of block and keys."""

    edit: Edit
    enabled: bool
    rank: int
    reach: str
    report: dict[str, Any]
    revision: int
    record: int
    nbytes: int

    @property
    def holder(self) -> int:
        """The record that holds the block: its own, or the one it shares."""
        return int(self.report.get("block", self.record))


@dataclass(frozen=True)
class ChangeRow:
    """What a revision did to one edit: ``record`` is None where it was removed."""

    edit_id: str
    record: int | None
    enabled: bool


@dataclass(frozen=True)
class Revision:
    """One transaction of the history."""

    revision: int
    time: str
    action: str
    detail: dict[str, Any]
    changes: list[ChangeRow]
