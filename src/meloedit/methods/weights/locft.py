"""LocFT-BF (arXiv 2509.22072) as in its authors' code (ICT-STAR/LocFT): ordinary fine-tuning of one matrix.

All edits are trained in shuffled batches, pass after pass, to the token that ends an answer. Further edits are trained
together with all earlier ones, from the original weights, as the authors propose for edits that come one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ft import FineTuning, FtSettings

if TYPE_CHECKING:
    from ...edit import Edit


@dataclass(frozen=True)
class LocFtSettings(FtSettings):
    """Settings of LocFT-BF: the authors' for LLaMA-3-8B, with the layer at its relative depth.

    Attributes:
        refit: train all edits so far, from the original weights; if not, the new ones alone, from those of now.
    """

    edits_per_call: int = 3000
    refit: bool = True


class LocFt(FineTuning):
    """Trains one matrix on all edits together."""

    name = "locft"
    Settings = LocFtSettings

    def _edit(self, edits: Sequence[Edit]) -> None:
        if self.settings.refit:
            self._reset()
            edits = [*(edit for name, edit in self.edits.items() if name not in {new.id for new in edits}), *edits]
        super()._edit(edits)
