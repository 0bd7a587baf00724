"""The unedited model, which every method is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Method, Size

if TYPE_CHECKING:
    from ..edit import Edit


class Unedited(Method):
    """Accepts edits and ignores them."""

    name = "none"
    removes = True

    def _edit(self, edits: Sequence[Edit]) -> None:
        pass

    def _remove(self, ids: Sequence[str]) -> None:
        pass

    def _reset(self) -> None:
        pass

    def size(self) -> Size:
        """Return zero."""
        return Size(0, 0)
