"""NearMisses: prompts that came near an edit without firing it, or fired it with a low score, until somebody decides.

They stand in a file beside the store, so that noting them neither waits for the store's lock nor makes a revision. The
file only grows: a line notes a prompt, or says what was decided about one. A line is written in one piece; one that was
cut off by a crash is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import is_number
from ..edit import check_asked, prompt_key
from ..errors import EditError

if TYPE_CHECKING:
    from ..results import Route
    from ..types import Prompt

NEAR_ODDS = 20.0
"""A prompt is near the least score if the odds for it are within this factor of the least odds, on either side."""
NEAR_DISTANCE = 1.1
"""The same without a judge: a factor of the threshold's distance."""
STAYS_OUT = ("quiet", "tool result", "tool call", "answer given")
"""Reasons why an edit that is near does not answer, and need not."""
Decision = Literal["allow", "quiet", "leave"]
"""What can be decided about a near miss."""


@dataclass(frozen=True)
class NearMiss:
    """A prompt that somebody should look at.

    Attributes:
        prompt: the prompt.
        edit: the id of the edit that it came near.
        fired: whether the edit answered it, with a low score.
        score: the judge's probability when it was noted last; ``None`` without a judge.
        count: how often it was noted.
        time: when it was noted last: ISO 8601, UTC.
    """

    prompt: Prompt
    edit: str
    fired: bool
    score: float | None
    count: int
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Return the near miss as JSON-ready values."""
        return asdict(self)


class NearMisses:
    """The near misses of a store.

    Args:
        store: the store's path.
    """

    def __init__(self, store: str | Path) -> None:
        self.path = Path(f"{store}.near.jsonl")

    def note(self, asked: Iterable[tuple[Prompt, Route]]) -> int:
        """Note those prompts whose routes came near the threshold, and return how many these are."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [
            {"prompt": prompt, "edit": route.nearest, "fired": route.edit is not None, "score": route.score}
            for prompt, route in asked
            if is_near(route)
        ]
        self._append([line | {"time": now} for line in lines])
        return len(lines)

    def decide(self, miss: NearMiss, decision: Decision) -> None:
        """Write down what was decided about a near miss, which is pending no longer."""
        self._append([{"prompt": miss.prompt, "edit": miss.edit, "decided": decision}])

    def pending(self) -> list[NearMiss]:
        """Return what nobody has decided about since it was noted, the most frequent first.

        Raises:
            EditError: if the file cannot be read.
        """
        found: dict[tuple[str, str], NearMiss] = {}
        for value in self._values():
            key = value["edit"], prompt_key(value["prompt"])
            if "decided" in value:
                found.pop(key, None)
                continue
            before = found.pop(key, None)
            count = 1 if before is None else before.count + 1
            found[key] = NearMiss(value["prompt"], value["edit"], value["fired"], value["score"], count, value["time"])
        return sorted(found.values(), key=lambda miss: (-miss.count, miss.time))

    def _values(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open("rb") as stream:
                for line in stream:
                    if (value := _value(line)) is not None:
                        yield value
        except FileNotFoundError:
            return
        except OSError as error:
            raise EditError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _append(self, values: Iterable[dict[str, Any]]) -> None:
        if not (text := "".join(json.dumps(value) + "\n" for value in values)):
            return
        try:
            number = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(number).st_size
                torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
                os.write(number, (("\n" if torn else "") + text).encode())
            finally:
                os.close(number)
        except OSError as error:
            raise EditError(f"{self.path}: cannot be written ({error.strerror})") from None


def is_near(route: Route) -> bool:
    """Return whether a route came near the threshold, from either side; what a quiet prompt silenced did not."""
    if route.nearest is None or route.distance is None or route.reason in STAYS_OUT:
        return False
    if route.score is None or route.least_score is None:
        return route.threshold / NEAR_DISTANCE < route.distance < route.threshold * NEAR_DISTANCE
    odds, least = (p / max(1 - p, 1e-12) for p in (route.score, route.least_score))
    return least / NEAR_ODDS <= odds <= least * NEAR_ODDS


def _value(line: bytes) -> dict[str, Any] | None:
    """Return a note or a decision; ``None`` for a line that is neither."""
    try:
        value = json.loads(line)
        value["prompt"] = check_asked(value["prompt"])
        score = value.get("score")
        is_note = isinstance(value.get("fired"), bool) and isinstance(value.get("time"), str)
        is_note &= score is None or (is_number(score) and 0 <= score <= 1)
        known = isinstance(value["edit"], str) and ("decided" in value or is_note)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, EditError):
        return None
    return value if known else None
