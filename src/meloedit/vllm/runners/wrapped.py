"""Wrapped: functions put around methods of vLLM's objects, and taken off again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

PROBE = 8
"""Tokens of the pass without requests that proves what was put in."""


class Wrapped:
    """What was put around methods of some objects, and on modules."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def put(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Put a function around a method of one object: it is given the method and the arguments."""
        inner, own = getattr(owner, name), name in vars(owner)
        setattr(owner, name, partial(around, inner))
        self.later(partial(setattr, owner, name, inner) if own else partial(delattr, owner, name))

    def later(self, undo: Callable[[], object]) -> None:
        """Remember how something else is taken off."""
        self._undo.append(undo)

    def take_off(self) -> None:
        """Take all off, the last first."""
        while self._undo:
            self._undo.pop()()
