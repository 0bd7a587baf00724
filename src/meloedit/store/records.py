"""The values that go into a store and come out of it: records, live edits, changes, revisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..edit import Edit
from .tensors import Tensors

MODEL = "model"
"""Where the info of a calibration has the model that it moved the store to."""
GIVEN = "given"
"""Where the report of an amended edit has the edit as it was given."""


@dataclass(frozen=True)
class Record:
    """A trained edit that is about to be stored.

    Attributes:
        edit: the edit.
        rank: the rank of its block.
        reach: the tokens on which the block acts: ``"answer"`` or ``"all"``.
        report: what training reported; JSON values only.
        block: the block's tensors by name. If empty, the edit shares the block of the last record before it, in the
            same call of ``put``, that has one.
        keys: the tensors of its keys under the calibration in force.
    """

    edit: Edit
    rank: int
    reach: str
    report: dict[str, Any]
    block: Tensors
    keys: Tensors


@dataclass(frozen=True)
class StoredRecord:
    """One version of an edit as it was stored, live or not, with its tensors."""

    edit: Edit
    block: Tensors
    keys: Tensors


@dataclass(frozen=True)
class StoredEdit:
    """A live edit without its tensors.

    Attributes:
        edit: the edit.
        enabled: whether it answers.
        rank: the rank of its block.
        reach: the tokens on which the block acts: ``"answer"`` or ``"all"``.
        report: what training reported.
        revision: the revision of its latest change.
        record: the number of its record.
        nbytes: the bytes of its block and keys in the file.
    """

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
        """The number of the record that holds the block: this edit's record, or the one whose block it shares."""
        return int(self.report.get("block", self.record))

    def positions(self, default: int) -> int:
        """Return how many answer positions its block has; older records do not say and have the ``default``."""
        return int(self.report.get("positions", default))

    @property
    def places(self) -> tuple[int, int]:
        """The answer positions of its target's first token, with a blank before it and without."""
        match self.report.get("places"):
            case [int(blank), int(bare)] if 0 <= min(blank, bare) <= max(blank, bare) < 64:
                return blank, bare
        return 0, 0  # blocks of older stores

    @property
    def given(self) -> Edit:
        """The edit as it was given, without the wordings and quiet prompts that were put right later."""
        return Edit.from_dict(self.report[GIVEN]) if GIVEN in self.report else self.edit


@dataclass(frozen=True)
class ChangeRow:
    """One edit's part of a revision.

    Attributes:
        edit_id: the edit.
        record: the record that is live from this revision on; ``None`` if the revision removed the edit.
        enabled: whether the edit answers. For a removed edit, whether it answered before.
    """

    edit_id: str
    record: int | None
    enabled: bool


@dataclass(frozen=True)
class Revision:
    """One transaction of the history.

    Attributes:
        revision: its number, from 1.
        time: when it was committed: ISO 8601, UTC, in seconds.
        action: the name of the operation, such as ``"edit"`` or ``"rollback"``.
        detail: further facts about the operation, such as the target of a rollback.
        changes: its changes, in the order of ids.
    """

    revision: int
    time: str
    action: str
    detail: dict[str, Any]
    changes: list[ChangeRow]
