"""MEND (arXiv 2110.11309) as in its authors' code (eric-mitchell/mend): a network turns gradients into edits.

An edit reads, at each token, what a matrix is given and the loss's gradient by what it writes (section 3.1). A network
that has learned from training edits turns both into another pair (``transform.py``), and the matrix changes by the sum
of their outer products, times a learned length. Learning takes cedit * L_edit, the loss of another wording after the
edit, and cloc * L_loc, the change (KL) of what must stay (Eq. 4).

Several edits in one call give one step, as in the released code: the loss is the mean over all their tokens. Further
calls take gradients on the edited model, and add to the change. Learning makes as many edits at once as a call will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.contexts import frozen
from ...backbones.feed_forward import feed_forward_linears
from ...training.trainer import seeded
from ..changed import ChangedMatrices
from ..free_memory import check_room
from ..probing import probing
from .factors import Factors, adding, grouped
from .losses import divergences, group_means, token_losses
from .lower import LowerStates
from .method import COPIES, LearnedMethod
from .settings import LearnedSettings
from .transform import GradientTransform

if TYPE_CHECKING:
    from ...backbones.batch import Example
    from ...edit import Edit
    from ...types import Progress
    from .lessons import Lesson


@dataclass(frozen=True)
class MendSettings(LearnedSettings):
    """Settings under the authors' names and with their defaults; ``batch_size`` is their ``accumulate_bs``.

    Attributes:
        lr: Adam's learning rate for the network.
        layers: how many of the last layers of each stack are edited, in all matrices of their feed-forward.
        edit_lr: length of a step before learning.
        lr_lr: Adam's learning rate for the lengths.
        rank: most rank of a layer of the network.
        n_hidden: layers of the network before its last.
    """

    lr: float = 1e-6
    layers: int = 3
    edit_lr: float = 1e-4
    lr_lr: float = 1e-4
    rank: int = 1920
    n_hidden: int = 1


class MendNetwork(nn.Module):
    """The networks of all shapes, and the length of a step for each matrix."""

    def __init__(self, transforms: dict[str, GradientTransform], lengths: int, start: float) -> None:
        super().__init__()
        self.transforms = nn.ModuleDict(transforms)
        self.lengths = nn.Parameter(torch.full((lengths,), start))


class Mend(LearnedMethod, ChangedMatrices):
    """Changes the feed-forward matrices of the last layers by one step that a network has learned to make."""

    name = "mend"
    Settings = MendSettings
    held_tokens = 4

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        last = [f"{prefix}.{i}" for prefix, stack in self.backbone.stacks for i in self._last(len(stack))]
        self.keep_modules([name for layer in last for name in feed_forward_linears(self.backbone, layer)])
        self._dtype = torch.promote_types(next(iter(self._weights.values())).dtype, torch.float32)
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name in self.modules:
            by_shape.setdefault(self.shape(name), []).append(name)
        self.by_shape = by_shape
        self._lower = LowerStates(self.backbone, self._last(len(self.backbone.stacks[0][1])).start, self.name)

    def _last(self, count: int) -> range:
        return range(max(0, count - self.settings.layers), count)

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice to learn."""
        settings = self.settings
        sizes = [sum(shape) for shape in self.by_shape]
        weights = sum(2 * size * min(settings.rank, size) * (settings.n_hidden + 1) for size in sizes)
        size = torch.zeros(0, dtype=self._dtype).element_size()
        originals = sum(weight.nbytes for weight in self._originals.values())
        check_room(self.name, COPIES * size * weights + originals, "its network while it learns", self.backbone.device)

    def _make_learner(self) -> nn.Module:
        settings = self.settings
        transforms = {
            f"{shape[0]}x{shape[1]}": GradientTransform(
                *shape, len(names), settings.rank, settings.n_hidden, seeded(settings.seed, i, "mend")
            )
            for i, (shape, names) in enumerate(self.by_shape.items())
        }
        return MendNetwork(transforms, len(self.modules), settings.edit_lr).to(self._dtype)

    def _weight_groups(self, learner: nn.Module) -> list[dict[str, Any]]:
        lengths = learner.lengths
        others = [weight for weight in learner.parameters() if weight is not lengths]
        return [{"params": others}, {"params": [lengths], "lr": self.settings.lr_lr}]

    # -- learning

    def _ready(self, lessons: Sequence[Lesson], progress: Progress | None) -> None:
        rows = [row for lesson in lessons for row in (lesson.inner, *lesson.outer, lesson.held_row)]
        self._lower.read(rows, progress)

    def _done(self) -> None:
        self._lower.forget()

    def _lesson_loss(self, lessons: Sequence[Lesson], number: int) -> Tensor:
        size = self.settings.edits_per_call
        groups = [i // size for i in range(len(lessons))]
        factors = self.factors([lesson.inner for lesson in lessons], groups)
        outer = [lesson.outer[lesson.wording(number, self.settings.seed)] for lesson in lessons]
        held = [lesson.held_row for lesson in lessons]
        device, settings = self.backbone.device, self.settings
        with frozen(self.model):
            with torch.no_grad(), self._lower.used(held):
                before = [logits.to(self._dtype) for logits in self.backbone.narrow_logits(held)]
            both = [*outer, *held]
            with adding(self.model, factors, torch.tensor([*groups, *groups], device=device)), self._lower.used(both):
                after = [logits.to(self._dtype) for logits in self.backbone.narrow_logits(both)]
        edited = group_means(token_losses(after[: len(outer)], outer), outer, groups)
        kept = group_means(divergences(before, after[len(outer) :]), held, groups)
        return settings.cedit * edited.mean() + settings.cloc * kept.mean()

    def factors(self, examples: Sequence[Example], groups: Sequence[int]) -> dict[str, Factors]:
        """Return the changes that the network makes of edits.

        Args:
            examples: the rows of the edits.
            groups: the edit, or the edits that are made at once, of each row: 0, 1, ..., in ascending order.
        """
        learner: Any = self._fitted()
        probes: dict[str, tuple[Tensor, Tensor]] = {}
        with (
            frozen(self.model),
            torch.enable_grad(),
            probing(self.model, self.modules, probes),
            self._lower.used(examples),
        ):
            logits = [one.to(self._dtype) for one in self.backbone.narrow_logits(examples)]
            # a sum over groups: each has the gradients that it would have alone
            loss = group_means(token_losses(logits, examples), examples, groups).sum()
            gradients = torch.autograd.grad(loss, [probes[name][1] for name in self.modules])
        of_row = torch.tensor(groups, device=logits[0].device)
        changes: dict[str, Factors] = {}
        for i, (name, gradient) in enumerate(zip(self.modules, gradients, strict=True)):
            given = probes[name][0]
            real = (given != 0).any(-1) & (gradient != 0).any(-1)  # as in the released code, others say nothing
            group = of_row[:, None].expand(real.shape)[real]
            shape = self.shape(name)
            transform = learner.transforms[f"{shape[0]}x{shape[1]}"]
            pair = transform(given[real], gradient[real], self.by_shape[shape].index(name))
            count = groups[-1] + 1
            changes[name] = Factors(grouped(pair[0], group, count), learner.lengths[i] * grouped(pair[1], group, count))
        return changes

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        examples = self.examples(edits)
        with torch.no_grad():
            factors = self.factors(examples, [0] * len(examples))
            for name, one in factors.items():
                self.change(name, one.change())
