"""CaliNet (arXiv 2210.03329) as in its authors' code (dqxiu/CaliNet): slots beside a feed-forward, for many facts.

A small feed-forward of the same form (activation, gate if there is one, no biases) stands beside that of one layer or a
few, and adds to what it writes. It alone is trained, on all facts together in all the wordings that they are given; the
model's own weights stay as they are. The method is made for one batch of facts: further edits are trained together
with all earlier ones, from new slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers.optimization import Adafactor

from ...backbones.contexts import frozen
from ...training.trainer import seeded
from ..base import Method, Size
from ..checkpoint import read_state, write_state
from ..free_memory import check_room
from ..settings import Settings
from .parts import Part, packed
from .places import Beside, Place, find_place, last_layers

if TYPE_CHECKING:
    from ...edit import Edit

GRADIENT = 1.0
"""Greatest norm of a step's gradient: the default of the authors' trainer."""
AT_ONCE = 32
"""Rows that run in one pass; a step sums the gradients of several."""


@dataclass(frozen=True)
class CaliNetSettings(Settings):
    """Settings of the authors' script for 100 facts on T5-base, under their names; layers at their relative depth.

    Attributes:
        depth: relative depth of the last layer with slots in the last stack, from 0 to 1.
        layers: how many layers have slots.
        ex_size: slots of each layer.
        lr: Adafactor's learning rate.
        max_steps: most steps.
        batch_size: rows of a step (512 in each of four passes).
        enough: loss in nats below which training ends; the authors train to the last step.
        refit: train all edits so far, from new slots; if not, the new ones alone, from the slots of now.
        activation: the slots' activation function, by its name in transformers; empty: the feed-forward's own.
    """

    from_zero = ("enough",)
    shares = ("depth",)
    edits_per_call: int = 3000
    depth: float = 1.0
    layers: int = 1
    ex_size: int = 64
    lr: float = 1e-2
    max_steps: int = 5000
    batch_size: int = 2048
    enough: float = 0.0
    refit: bool = True
    activation: str = ""


class Slots:
    """The slots beside one feed-forward.

    Args:
        place: the feed-forward.
        weights: (s, d) what reads, with a gate a second one that it is multiplied by, and (d, s) what writes.
    """

    def __init__(self, place: Place, weights: Sequence[Tensor]) -> None:
        self.place, self.weights = place, list(weights)

    @classmethod
    def new(cls, place: Place, count: int, like: Tensor, generator: torch.Generator) -> Slots:
        """Return slots with torch's usual start of a linear module, uniform in +-1/sqrt(inputs)."""
        shapes = [(count, place.width)] * (2 if place.gated else 1) + [(place.width, count)]
        drawn = [torch.rand(shape, generator=generator, dtype=like.dtype) for shape in shapes]
        return cls(place, [((2 * one - 1) / one.shape[1] ** 0.5).to(like.device) for one in drawn])

    def __call__(self, given: Tensor) -> Tensor:
        """Return what they write (..., d), from what the feed-forward is given (..., d)."""
        read, writes = self.weights[0], self.weights[-1]
        given = given.to(read.dtype)
        active = self.place.act(given @ read.T)
        if len(self.weights) == 3:
            active = active * (given @ self.weights[1].T)
        return cast(Tensor, active @ writes.T)


class CaliNet(Method):
    """Trains slots beside feed-forwards on all edits together."""

    name = "calinet"
    Settings = CaliNetSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix, last = self.layer_at(self.settings.depth)
        numbers = last_layers(self.backbone.stacks[-1][1], last, self.settings.layers)
        self.places = [find_place(self.backbone, f"{prefix}.{i}", self.name, self.settings.activation) for i in numbers]
        self.slots: list[Slots] = []
        self.steps = 0
        self._beside = [Beside(place, self._writer(i)) for i, place in enumerate(self.places)]

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice to train the slots."""
        numbers = sum((3 if place.gated else 2) * place.width * self.settings.ex_size for place in self.places)
        # the slots, their gradients, Adafactor's step; all of float32 or wider
        check_room(self.name, 3 * self._dtype.itemsize * numbers, "its slots", self.backbone.device)

    @property
    def _dtype(self) -> torch.dtype:
        weight = next(weight for weight in self.model.parameters() if weight.is_floating_point())
        return torch.promote_types(weight.dtype, torch.float32)

    def _writer(self, number: int) -> Any:
        def written(given: Tensor) -> Tensor | None:
            return self.slots[number](given) if self.slots else None

        return written

    def _new_slots(self) -> list[Slots]:
        like = torch.zeros(0, dtype=self._dtype, device=self.backbone.device)
        generator = seeded(self.settings.seed, 0, self.name)
        return [Slots.new(place, self.settings.ex_size, like, generator) for place in self.places]

    def _reset(self) -> None:
        self.slots = []

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        settings = self.settings
        if settings.refit:
            new = {edit.id for edit in edits}
            edits = [*(edit for name, edit in self.edits.items() if name not in new), *edits]
            self._reset()
        rows, size = self.examples(edits), min(AT_ONCE, settings.batch_size)
        with frozen(self.model):
            parts = packed(self.backbone, rows, size, self.places[0].name)
            if not self.slots:
                self.slots = self._new_slots()
            with torch.enable_grad():
                self._train(parts)

    def _train(self, parts: Sequence[Part]) -> None:
        """Take steps until there are enough, or the loss over all rows is small enough."""
        settings = self.settings
        weights = [weight.requires_grad_(True) for slots in self.slots for weight in slots.weights]
        optimizer = Adafactor(weights, lr=settings.lr, scale_parameter=False, relative_step=False)
        seed = seeded(settings.seed, len(self.edits), f"{self.name} order")
        batches, self.steps = _batches(parts, settings.batch_size, seed), 0
        losses: list[float] = []
        try:
            while self.steps < settings.max_steps:
                batch, last = next(batches)
                optimizer.zero_grad()
                losses.append(_backward(batch))
                torch.nn.utils.clip_grad_norm_(weights, GRADIENT)
                optimizer.step()
                self.steps += 1
                if last:
                    if sum(losses) / len(losses) < settings.enough:
                        break
                    losses = []
        finally:
            for weight in weights:
                weight.requires_grad_(False)
                weight.grad = None

    # -- size and state

    def size(self) -> Size:
        """Return the size of the slots."""
        return Size.of(weight for slots in self.slots for weight in slots.weights)

    def blocks(self) -> dict[str, Any]:
        """Return one block for all edits."""
        return dict.fromkeys(self.edits, "slots")

    def details(self) -> dict[str, Any]:
        """Say how many steps the last training took."""
        return {"steps": self.steps}

    def checkpoint(self) -> dict[str, Any]:
        """Write the slots."""
        tensors = {f"{i} {k}": weight for i, slots in enumerate(self.slots) for k, weight in enumerate(slots.weights)}
        return write_state(self.folder, tensors) | {"steps": self.steps}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the slots."""
        tensors, device = read_state(self.folder, noted), self.backbone.device
        count = 3 if self.places[0].gated else 2
        self.slots = [
            Slots(place, [tensors[f"{i} {k}"].to(device) for k in range(count)])
            for i, place in enumerate(self.places)
            if f"{i} 0" in tensors
        ]
        self.steps = noted["steps"]
        super().restore(noted, edits)

    def close(self) -> None:
        """Take the hooks off the feed-forwards."""
        self.reset()
        for beside in self._beside:
            beside.remove()


def _batches(parts: Sequence[Part], size: int, generator: torch.Generator) -> Iterator[tuple[list[Part], bool]]:
    """Yield batches of whole parts in shuffled order, each with whether it is the last of a pass, without end.

    Rows of one part stay together, as what the layers below gave for them is kept by part.
    """
    while True:
        batch: list[Part] = []
        order = torch.randperm(len(parts), generator=generator).tolist()
        for i, number in enumerate(order):
            batch.append(parts[number])
            last = i + 1 == len(order)
            if last or sum(len(part.rows) for part in [*batch, parts[order[i + 1]]]) > size:
                yield batch, last
                batch = []


def _backward(batch: Sequence[Part]) -> float:
    """Add the gradients of the mean cross-entropy over all target tokens of a batch; return it, in nats."""
    count, total = sum(len(part.targets) for part in batch), 0.0
    for part in batch:
        logits = part.logits()
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = torch.nn.functional.cross_entropy(logits, part.targets, reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total
