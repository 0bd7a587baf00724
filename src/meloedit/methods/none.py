"""The unedited model: what every change is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Method, Size

if TYPE_CHECKING:
    from ..edit import Edit


class Unedited(Method):
    """Takes edits and does nothing with them."""

    name = "none"
    removes = True

    def _edit(self, edits: Sequence[Edit]) -> None:
        pass

    def _remove(self, ids: Sequence[str]) -> None:
        pass

    def _reset(self) -> None:
        pass

    def size(self) -> Size:
        """Return nothing."""
        return Size(0, 0)
