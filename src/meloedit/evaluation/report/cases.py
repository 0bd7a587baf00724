"""The worst cases of a report: the observations that went wrong, and the worst of them."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from typing import Any

from .values import number, short

CASES = 12
"""Cases shown for each set of prompts and method."""
MAX_CASE_TEXT = 400
"""Characters of a text in a case; the observations have the whole text."""


@dataclass
class WorstCases:
    """The worst of the observations added: those on a wrong route first, then by divergence, then in the file's order.

    Attributes:
        total: how many observations were added.
    """

    total: int = 0
    _heap: list[tuple[int, float, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Count an observation, and retain it if it is among the ``CASES`` worst so far."""
        self.total += 1
        kl = number(row.get("kl"))
        entry = (int(row.get("routed") == "wrong"), kl if kl is not None and kl == kl else 0.0, -self.total, row)
        if len(self._heap) < CASES:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def cases(self) -> list[dict[str, Any]]:
        """Return the worst observations as texts, the worst first."""
        names = ("prompt", "wanted", "answer", "base", "route", "routed", "nearest", "kind", "item")
        rows = [row for *_, row in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]
        return [{name: _text(row.get(name)) for name in names} for row in rows]


def _text(value: Any) -> str | None:
    return None if value is None else short(value if isinstance(value, str) else json.dumps(value), MAX_CASE_TEXT)


def is_bad(where: str, row: dict[str, Any]) -> bool:
    """Return whether an edit failed, a rephrasing was answered wrongly, or another prompt's answer changed.

    Args:
        where: the observation's set.
        row: the observation, as read from a file. Without an answer its ``agreed`` decides, the share of wanted tokens
            that argmax gives; where routes alone were measured, its route.
    """
    if "nearest" in row:
        return _is_misrouted(where, row)
    right, agreed = row.get("right"), number(row.get("agreed"))
    if where in ("edits", "rephrases", "chats"):
        return right is False or right is None and agreed is not None and agreed < 1
    if where not in ("near", "far", "upstream"):
        return False
    if where != "upstream" and isinstance(right, bool):
        return not right
    answer, base = row.get("answer"), row.get("base")
    if isinstance(answer, str) and isinstance(base, str):
        return answer != base
    return agreed < 1 if agreed is not None else row.get("identical") is False


def _is_misrouted(where: str, row: dict[str, Any]) -> bool:
    """Return whether an edit's prompt did not reach its edit, or another prompt reached one.

    Without a threshold nothing says what is reached: then the nearest edit must be the prompt's.
    """
    routed = row.get("routed")
    if where not in ("edits", "rephrases", "chats"):
        return routed in ("right", "wrong")
    if row.get("threshold") is None and row.get("wanted") is not None:
        return row["nearest"] != row["wanted"]
    return routed != "right"
