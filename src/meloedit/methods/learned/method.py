"""What methods that learn beforehand share: ``fit``, which learns once and then reads what was kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ...errors import MeloEditError
from ...files import cache_folder, json_hash
from ..base import Method
from .fitting import Fitting, put_values, values_of
from .kept import forget, read_kept, write_kept
from .lessons import make_lessons
from .settings import PLACES, LearnedSettings

if TYPE_CHECKING:
    from ...edit import Edit
    from ...types import Progress
    from .lessons import Lesson

COPIES = 9
"""Copies of a network's weights in memory while it learns: they, gradients, Adam's two moments, the best so far, and
a state with four of these that is written."""
LEAST = 2
"""Least training edits: one is what the other must leave alone."""


class LearnedMethod(Method):
    """A method that learns from training edits before it makes any.

    Attributes:
        learner: the network that learns; ``None`` before ``fit``.
        learned: notes of learning, for the result.
        held_tokens: most tokens of the unedited model's answers that learning compares with; 0: it needs none.
    """

    Settings = LearnedSettings
    learns = True
    held_tokens: ClassVar[int] = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.learner: nn.Module | None = None
        self.learned: dict[str, Any] = {}

    @abstractmethod
    def _make_learner(self) -> nn.Module:
        """Return the network as it is before learning."""

    @abstractmethod
    def _lesson_loss(self, lessons: Sequence[Lesson], number: int) -> Tensor:
        """Return the mean loss of lessons; ``number`` draws what is drawn at random."""

    def _ready(self, lessons: Sequence[Lesson], progress: Progress | None) -> None:  # noqa: B027
        """Do what comes before the first step, such as computing once what no step changes."""

    def _done(self) -> None:  # noqa: B027
        """Forget what learning alone needs."""

    def _weight_groups(self, learner: nn.Module) -> list[dict[str, Any]]:
        """Return the trained weights as groups of the optimiser's."""
        return [{"params": [weight for weight in learner.parameters() if weight.requires_grad]}]

    def fit(self, edits: Sequence[Edit], progress: Progress | None = None) -> None:
        """Learn from training edits, or read what was learned from the same ones with the same settings.

        Args:
            edits: the training edits. Their variants are the wordings that an edit must also answer, their first quiet
                prompt is one that it must leave alone.
            progress: called with what is being done, how many steps are done, and how many there are.

        Raises:
            MeloEditError: if there are too few, edits were made already, or a kept file is damaged, of another version
                or of another model.
        """
        if self.edits:
            raise MeloEditError(f"method {self.name} learns before the first edit: reset it first")
        edits = [self.backbone.as_written(edit) for edit in edits[: self.settings.examples]]
        if len(edits) < LEAST:
            raise MeloEditError(f"method {self.name} learns from {LEAST} training edits or more, and gets {len(edits)}")
        model = self.backbone.fingerprint()
        self.learner = None  # until it has learned
        learner = self._make_learner().to(self.backbone.device)
        path = self._path(edits, model)
        running = path.with_suffix(".learning")
        if (kept := read_kept(path, self.name, model, values_of(learner))) is not None:
            put_values(learner, kept.tensors)
            learner.eval()
            self.learner, self.learned = learner, kept.notes["learned"]
            forget(running)  # a run may have been killed between keeping the one and forgetting the other
            return
        lessons = make_lessons(self, edits, self.held_tokens, self.settings.seed, progress)
        if len(lessons) < LEAST:
            raise MeloEditError(
                f"method {self.name}: the model has tokens and room for {len(lessons)} of the {len(edits)} training "
                "edits: give others"
            )
        self.learner = learner
        try:
            self._ready(lessons, progress)
            groups = self._weight_groups(learner)
            fitting = Fitting(
                self.name, learner, groups, self._lesson_loss, self.settings, lessons, running, model, progress
            )
            self.learned = fitting.run()
        except BaseException:  # a network that was stopped half-way must make no edit
            self.learner = None
            raise
        finally:
            self._done()
        write_kept(path, model, {"learned": self.learned}, values_of(learner))
        forget(running)

    def _path(self, edits: Sequence[Edit], model: str) -> Path:
        """Return the file of what is learned from these edits."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in PLACES}
        source = json_hash([settings, [edit.content for edit in edits], *self._sources()])
        folder = Path(self.settings.learned) if self.settings.learned else cache_folder() / "learned" / model
        return folder / f"{self.name}-{source}.learned"

    def _sources(self) -> list[str]:
        """Return what else the result of learning depends on, as texts."""
        return []

    def _fitted(self) -> nn.Module:
        """Return the network.

        Raises:
            MeloEditError: if it has not learned yet.
        """
        if self.learner is None:
            raise MeloEditError(
                f"method {self.name} has learned nothing yet: call fit(edits) first (meloedit eval: --set "
                f"{self.name}.train=FILE)"
            )
        return self.learner

    def details(self) -> dict[str, Any]:
        """Return what learning took, and how the loss of the held-out training edits went."""
        return {"learned": dict(self.learned)}
