"""Learning from lessons: steps of Adam, looks at held-out lessons, and a state on disk from which a killed run goes on.

A step depends on its number alone (which lessons it takes, in which wording), so that a run that was killed ends as one
that was not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...training.trainer import seeded
from .kept import Kept, read_kept, write_kept

if TYPE_CHECKING:
    from ...types import Progress
    from .lessons import Lesson
    from .settings import LearnedSettings

logger = logging.getLogger(__name__)
Loss = Callable[[Sequence["Lesson"], int], Tensor]
"""Returns the loss of lessons, given a number for what is drawn at random; in nats."""


def values_of(learner: nn.Module) -> dict[str, Tensor]:
    """Return all that a network has learned, by name: its trained weights, and its buffers."""
    weights = {name: weight for name, weight in learner.named_parameters() if weight.requires_grad}
    return {name: one.detach() for name, one in {**weights, **dict(learner.named_buffers())}.items()}


def put_values(learner: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Bring back what ``values_of`` returned."""
    for name, one in values_of(learner).items():
        one.copy_(values[name])


class Fitting:
    """Trains a network on lessons.

    Args:
        method: the method's name.
        learner: the network.
        groups: its weights as groups of Adam's.
        loss: the loss of lessons.
        settings: how to learn.
        lessons: all lessons.
        path: where the state is kept meanwhile.
        model: the fingerprint of the model that is edited.
        progress: called with what is being done, how many steps are done, and how many there are.
    """

    def __init__(
        self,
        method: str,
        learner: nn.Module,
        groups: Sequence[dict[str, Any]],
        loss: Loss,
        settings: LearnedSettings,
        lessons: Sequence[Lesson],
        path: Path,
        model: str,
        progress: Progress | None,
    ) -> None:
        self.method, self.learner, self.loss, self.settings = method, learner, loss, settings
        self.path, self.model, self.progress = path, model, progress
        order = torch.randperm(len(lessons), generator=seeded(settings.seed, 0, "held out")).tolist()
        held = min(settings.val_examples, len(lessons) // 5)
        self.validation = [lessons[i] for i in order[:held]]
        self.training = [lessons[i] for i in order[held:]]
        kinds = {weight.device.type for group in groups for weight in group["params"]}
        # one pass over weights and moments instead of a dozen: of a whole model they are a gigabyte
        self.optimizer = torch.optim.Adam(list(groups), lr=settings.lr, fused=kinds <= {"cpu", "cuda"})
        self.notes: dict[str, Any] = {
            "step": 0,
            "best_step": 0,
            "best_loss": math.inf,
            "seconds": 0.0,
            "processor_seconds": 0.0,
            "losses": [],
        }
        self.best: dict[str, Tensor] = {}

    def run(self) -> dict[str, Any]:
        """Learn until the last step, or until nothing gets better; return notes of it, JSON-ready.

        The network then has the weights that did best on the held-out lessons, or the last ones without such lessons.
        """
        needed = [f"now/{name}" for name in values_of(self.learner)]
        if (kept := read_kept(self.path, self.method, self.model, needed)) is not None:
            self._resume(kept)
        settings, notes = self.settings, self.notes
        while notes["step"] < settings.steps and notes["step"] - notes["best_step"] < settings.early_stop_patience:
            began = time.perf_counter(), time.process_time()
            stop = min(settings.steps, (notes["step"] // settings.val_interval + 1) * settings.val_interval)
            for number in range(notes["step"], stop):
                self._step(number)
                if self.progress:
                    self.progress(f"{self.method}: learning", number + 1, settings.steps)
            notes["step"] = stop
            self._look()
            notes["seconds"] += time.perf_counter() - began[0]
            notes["processor_seconds"] += time.process_time() - began[1]
            if stop < settings.steps:
                self._write()
        if self.best:
            put_values(self.learner, self.best)
        self.learner.eval()
        return self._summary()

    def _step(self, number: int) -> None:
        """Train on the lessons of a step."""
        size, count = self.settings.batch_size, len(self.training)
        drawn: list[int] = []
        while len(drawn) < size:  # pass after pass over all lessons, each in another order
            turn, place = divmod(number * size + len(drawn), count)
            order = torch.randperm(count, generator=seeded(self.settings.seed, turn, "lessons")).tolist()
            drawn += order[place : place + size - len(drawn)]
        self.learner.train()
        self.optimizer.zero_grad()
        self.loss([self.training[i] for i in drawn], number).backward()
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        length = nn.utils.clip_grad_norm_(weights, self.settings.grad_clip)
        if torch.isfinite(length):  # as in the released code, what is no number changes nothing
            self.optimizer.step()

    def _look(self) -> None:
        """Take the loss of the held-out lessons, and keep the weights if they do better than before."""
        if not self.validation:
            self.notes["best_step"] = self.notes["step"]
            return
        self.learner.eval()
        total, size = 0.0, self.settings.batch_size
        for start in range(0, len(self.validation), size):
            part = self.validation[start : start + size]
            with torch.no_grad():
                total += len(part) * self.loss(part, -1).item()
        mean = total / len(self.validation)
        self.notes["losses"].append([self.notes["step"], mean])
        logger.info("%s: step %d, loss of held-out edits %.4f", self.method, self.notes["step"], mean)
        if mean < self.notes["best_loss"]:
            self.notes |= {"best_loss": mean, "best_step": self.notes["step"]}
            self.best = {name: one.clone() for name, one in values_of(self.learner).items()}

    def _write(self) -> None:
        """Write the state: the weights, the best ones, and Adam's."""
        moments = {
            f"adam/{i}/{name}": value
            for i, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        now = {f"now/{name}": one for name, one in values_of(self.learner).items()}
        best = {f"best/{name}": one for name, one in self.best.items()}
        if self.notes["best_step"] == self.notes["step"]:
            best = {}  # the same as now
        write_kept(self.path, self.model, self.notes, now | best | moments)

    def _resume(self, kept: Kept) -> None:
        self.notes |= {name: kept.notes[name] for name in self.notes}
        device = next(self.learner.parameters()).device
        put_values(self.learner, kept.under("now/"))
        if self.validation:
            best = kept.under("best/") or kept.under("now/")
            self.best = {name: one.to(device) for name, one in best.items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in kept.under("adam/").items():
            number, _, part = name.partition("/")
            state.setdefault(int(number), {})[part] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})

    def _summary(self) -> dict[str, Any]:
        """Return what a result says of learning."""
        notes = self.notes
        return {
            "examples": len(self.training),
            "held_out": len(self.validation),
            "steps": notes["step"],
            "best_step": notes["best_step"],
            "seconds": round(notes["seconds"], 1),
            "processor_seconds": round(notes["processor_seconds"], 1),
            "parameters": sum(weight.numel() for weight in self.learner.parameters() if weight.requires_grad),
            "losses": [[step, round(loss, 4)] for step, loss in notes["losses"]],
        }
