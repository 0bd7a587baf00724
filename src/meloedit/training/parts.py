"""Parts: edits cut into what trains at once, and who trains them: this process, or workers beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..backbones.batch import Example
    from .trainer import HoldProgress, Trained

Part = Sequence[tuple[str, "Sequence[Example]"]]
"""Edits that train at once, each as its id and rows. They are cut before any is handed out: what a block becomes
depends, in its last bits, on the edits that train beside it."""


@dataclass(frozen=True)
class TrainedPart:
    """What became of a part.

    Attributes:
        trained: a result per edit, in order; none if the part failed.
        seconds: what training took by the clock.
        failure: why it could not be trained; empty if it was.
    """

    trained: list[Trained]
    seconds: float
    failure: str = ""


class BlockTrainer(Protocol):
    """Trains the blocks of some edits."""

    def train(
        self, edits: Sequence[tuple[str, Sequence[Example]]], progress: Callable[[int], None] | None = None
    ) -> list[Trained]:
        """Return one result per edit, given as its id and rows; ``progress`` is told how many edits hold."""


class PartTrainer(Protocol):
    """Trains parts, in whatever order, and hands them out in theirs."""

    def train(self, parts: Sequence[Part], progress: HoldProgress | None = None) -> Generator[TrainedPart, None, None]:
        """Yield what became of each part, in order.

        Args:
            parts: the parts.
            progress: told how many edits hold of those that were not handed out yet.
        """


class InTurn:
    """Trains parts here, each when it is asked for; implements ``PartTrainer``.

    Args:
        trainer: trains a part.
    """

    def __init__(self, trainer: BlockTrainer) -> None:
        self._trainer = trainer

    def train(self, parts: Sequence[Part], progress: HoldProgress | None = None) -> Generator[TrainedPart, None, None]:
        """Yield what became of each part, in order."""
        for part in parts:
            began = time.perf_counter()
            trained = self._trainer.train(part, progress)
            yield TrainedPart(trained, time.perf_counter() - began)
