"""ScanRecord: the file that a scan writes as it goes, so that a scan that was stopped goes on where it left off.

Its first line says what is scanned. Then come, chunk by chunk, the hits and near misses of the chunk, one a line, and a
line that closes the chunk: how many lines are done, and the hash of all of them. What follows the last such line is cut
off when the file is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..config import is_number, is_whole
from ..errors import EditError
from ..types import Prompt


class Finding(NamedTuple):
    """A prompt of the log that an edit would answer, or nearly.

    Attributes:
        line: its line in the log.
        prompt: the prompt.
        edit: the id of the edit.
        fires: whether the edit would answer.
        reason: why, as in ``Route``.
        distance: of the keys.
        score: the judge's probability; ``None`` without a judge.
    """

    line: int
    prompt: Prompt
    edit: str
    fires: bool
    reason: str
    distance: float | None
    score: float | None

    @property
    def nearness(self) -> tuple[float, float]:
        """Greater for prompts that are nearer to the edit."""
        return (-1.0 if self.score is None else self.score), -(self.distance or 0.0)


class Done(NamedTuple):
    """How far a scan came.

    Attributes:
        lines: lines of the log that are done.
        prompts: how many of them hold a prompt.
        digest: the hash of these lines.
    """

    lines: int = 0
    prompts: int = 0
    digest: str = ""


class ScanRecord:
    """Writes and reads the file.

    Args:
        path: the file; it is made if it is missing.
        head: what is scanned; JSON values only.

    Raises:
        EditError: if the file is of another scan, or cannot be read or written.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self._head = json.dumps(dict(head), sort_keys=True)
        self.done, size = self._resumed() if path.exists() else (Done(), 0)
        try:
            self._stream = path.open("r+b" if size else "wb")
            self._stream.truncate(size)
            self._stream.seek(size)
            if not size:
                self._write([{"scan": json.loads(self._head)}])
        except OSError as error:
            raise EditError(f"{path}: cannot be written ({error.strerror})") from None

    def _resumed(self) -> tuple[Done, int]:
        """Return how far an earlier scan came, and the bytes that belong to it."""
        done, size, whole, odd = Done(), 0, 0, 0
        try:
            with self.path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    value, whole = _value(line), whole + len(line)
                    if number == 1:
                        self._check_head(value)
                        size = whole
                    elif (closed := _done(value)) is not None and not odd:
                        done, size = closed, whole
                    elif closed is not None:
                        raise EditError(
                            f"{self.path} is damaged at line {odd}: remove it, or give another name with --record"
                        )
                    elif not odd and _finding(value) is None:
                        odd = number  # cut off by a kill, if nothing whole follows
        except OSError as error:
            raise EditError(f"{self.path}: cannot be read ({error.strerror})") from None
        return done, size

    def _check_head(self, value: Any) -> None:
        """Refuse a file whose first line is not that of this scan."""
        head = value.get("scan") if isinstance(value, dict) else None
        if not isinstance(head, dict):
            raise EditError(f"{self.path} is no record of a scan: give another name with --record")
        if json.dumps(head, sort_keys=True) != self._head:
            differs = ", ".join(_differences(head, json.loads(self._head)))
            raise EditError(
                f"{self.path} is the record of another scan ({differs}): remove it, or give another name with --record"
            )

    def close_chunk(self, findings: Sequence[Finding], done: Done) -> None:
        """Write the findings of a chunk, and how far the scan came with it."""
        self._write([*(finding._asdict() for finding in findings), {"done": done._asdict()}])
        self.done = done

    def _write(self, values: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._stream.write("".join(json.dumps(value) + "\n" for value in values).encode())
            self._stream.flush()
        except OSError as error:
            raise EditError(f"{self.path}: cannot be written ({error.strerror}); what it has is kept") from None

    def findings(self) -> Iterator[Finding]:
        """Yield all findings, in the order of the log."""
        with self.path.open("rb") as stream:
            for line in stream:
                if (found := _finding(_value(line))) is not None:
                    yield found

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _value(line: bytes) -> Any:
    """Return the JSON value of a line; ``None`` if it is cut off."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def _done(value: Any) -> Done | None:
    """Return what a line that closes a chunk says; ``None`` for another line."""
    done = value.get("done") if isinstance(value, dict) else None
    if not isinstance(done, dict) or done.keys() != set(Done._fields):
        return None
    whole = is_whole(done["lines"]) and is_whole(done["prompts"]) and isinstance(done["digest"], str)
    return Done(**done) if whole else None


def _finding(value: Any) -> Finding | None:
    """Return the finding of a line; ``None`` for another line."""
    if not isinstance(value, dict) or value.keys() != set(Finding._fields):
        return None
    found = Finding(**value)
    numbers = all(part is None or is_number(part) for part in (found.distance, found.score))
    texts = isinstance(found.edit, str) and isinstance(found.reason, str) and isinstance(found.prompt, (str, list))
    return found if numbers and texts and is_whole(found.line) and isinstance(found.fires, bool) else None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    known = {"edits": "of other edits", "state": "the store was made or changed otherwise"}
    named = {name: f"{name} was {old.get(name)!r}, is {new[name]!r}" for name in new if old.get(name) != new[name]}
    return [known.get(name, words) for name, words in named.items()]
