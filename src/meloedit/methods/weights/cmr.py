"""Continual model refinement (CMR, arXiv 2205.02014) as in its authors' code (facebookresearch/CMR).

The model is fine-tuned on a stream of errors, a call at a time, with one optimiser for the whole stream. Three things
keep it from forgetting, together or alone (``variant``):

* ``er``, experience replay: upstream examples and earlier edits train along, drawn at random without repetition.
  The memory keeps every edit and every upstream example; an edit that is made anew takes the place of the old one.
* ``ewc``, online EWC: a weight is held where it was before the call, the more the greater the running Fisher
  information of earlier calls is.
* ``l2``, online L2: each weight is held where it was before the call.

The authors' stream holds what the model answers wrong; here every edit of a call is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import EditError, MeloEditError
from ...training.trainer import seeded
from ..changed import ChangedWeights
from ..free_memory import check_room
from ..trained import TrainedMethod, only_trains
from .cmr_settings import CmrSettings
from .penalties import add_ewc, add_l2, estimate_fisher
from .upstream import upstream_examples, upstream_rows

if TYPE_CHECKING:
    from ...backbones.batch import Example
    from ...edit import Edit

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a weight."""


class Cmr(TrainedMethod, ChangedWeights):
    """Fine-tunes the model on edits as they come, against forgetting."""

    name = "cmr"
    Settings = CmrSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.check_precision()
        weights = dict(self.model.named_parameters())
        if self.settings.depth > 0:
            prefix, first = self.layer_at(self.settings.depth)
            numbers = {f"{prefix}.{i}." for i in range(first, len(self.backbone.stacks[-1][1]))}
            weights = {name: w for name, w in weights.items() if any(name.startswith(start) for start in numbers)}
        if whole := [name for name, weight in weights.items() if not weight.is_floating_point()]:
            raise MeloEditError(f"method {self.name} cannot train the quantised weights of {whole[0]}")
        self.keep(weights)
        self._upstream: list[Example] | None = None
        self._begin()

    def _begin(self) -> None:
        """Forget the stream."""
        self.calls = self.steps = 0
        self._optimizer: torch.optim.AdamW | None = None
        self.fisher: dict[str, Tensor] = {}

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice to train the weights, or upstream rows cannot be used."""
        settings, copies = self.settings, 3  # gradient, and AdamW's two moments
        copies += 2 * settings.has("ewc") + (settings.has("l2") and not settings.has("ewc"))
        size = sum(weight.nbytes for weight in self._weights.values())
        check_room(self.name, copies * size, "gradients and moments of its weights", self.backbone.device)
        if settings.has("er") and settings.upstream:
            upstream_rows(self.backbone, settings.upstream, settings.upstream_size)

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        settings, examples = self.settings, self.examples(edits)
        trained = examples + self._replayed(edits)
        steps = settings.epochs * math.ceil(len(trained) / settings.batch_size)
        if self.steps + steps > settings.total_steps:
            raise EditError(
                f"method {self.name} has made {self.steps} of {settings.total_steps} steps and needs {steps} more, "
                "for which its learning rate would be 0: raise total_steps"
            )
        generator = seeded(settings.seed, self.calls, self.name)
        held = settings.has("ewc") or settings.has("l2")
        start = {name: weight.detach().clone() for name, weight in self._weights.items()} if held else {}
        optimizer = self._optimizer = self._optimizer or self._new_optimizer()
        # Several examples come in another order in each pass, so that the lower layers must run again.
        once = settings.depth > 0 and len(trained) == 1
        lower = self.run_lower_layers_once(next(iter(self._weights))) if once else nullcontext()
        with only_trains(self.model, list(self._weights.values())), lower:
            for _ in range(settings.epochs):
                for part in torch.randperm(len(trained), generator=generator).split(settings.batch_size):
                    self.smoothed_loss([trained[i] for i in part.tolist()]).backward()
                    self._hold(start)
                    torch.nn.utils.clip_grad_norm_(self._weights.values(), settings.max_grad_norm)
                    for group in optimizer.param_groups:
                        group["lr"] = settings.lr * (1 - self.steps / settings.total_steps)
                    optimizer.step()
                    optimizer.zero_grad()
                    self.steps += 1
            if settings.has("ewc"):
                start.clear()  # so that the new information finds room
                new = estimate_fisher(self._weights, examples, self.smoothed_loss)
                self.fisher = {
                    name: value.add_(self.fisher[name], alpha=settings.ewc_gamma) if self.fisher else value
                    for name, value in new.items()
                }
        self.calls += 1

    def _new_optimizer(self) -> torch.optim.AdamW:
        weights = self._weights.values()
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": self.settings.weight_decay},
            {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.settings.lr, fused=True)

    def smoothed_loss(self, examples: Sequence[Example]) -> Tensor:
        """Return the sum over all target tokens of the label-smoothed cross-entropy, in nats."""
        logits = torch.cat(self.backbone.target_logits(examples))
        targets = torch.tensor([token for example in examples for token in example.target], device=logits.device)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        smoothing = self.settings.label_smoothing
        return torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")

    def _hold(self, start: Mapping[str, Tensor]) -> None:
        """Add the gradients of the penalties."""
        settings = self.settings
        if settings.has("l2"):
            add_l2(self._weights, start, settings.diff_loss_weight)
        if settings.has("ewc") and self.fisher:
            add_ewc(self._weights, start, self.fisher, settings.ewc_lambda * settings.ewc_gamma)

    # -- replay

    def _replayed(self, edits: Sequence[Edit]) -> list[Example]:
        """Return what trains along with a call: none with the first, as in the authors' code."""
        settings = self.settings
        if not settings.has("er") or self.calls == 0 or self.calls % settings.replay_frequency:
            return []
        generator = seeded(settings.seed, self.calls, "replay")
        upstream = int(settings.upstream_sample_ratio * settings.replay_size)
        new = {edit.id for edit in edits} | {str(edit.prompt) for edit in edits}
        past = [edit for edit in self.edits.values() if edit.id not in new and str(edit.prompt) not in new]
        drawn = _draw(past, settings.replay_size - upstream, generator)
        examples = self.examples(drawn)
        return examples + (_draw(self.upstream, upstream, generator) if upstream else [])

    @property
    def upstream(self) -> list[Example]:
        """The upstream examples; those without an answer are answered by the unedited model, when first needed."""
        if self._upstream is None:
            edited = {name: weight.detach().clone() for name, weight in self._weights.items()}
            self._put(self._originals)
            try:
                self._upstream = upstream_examples(self.backbone, self.settings.upstream, self.settings.upstream_size)
            finally:
                self._put(edited)
        return self._upstream

    def details(self) -> dict[str, Any]:
        """Return how long the stream was, and what it was trained with beside the edits."""
        replayed = self._upstream is not None
        return {"calls": self.calls, "steps": self.steps, "upstream_examples": len(self.upstream) if replayed else 0}

    # -- state

    def _reset(self) -> None:
        super()._reset()
        self._begin()

    def _state(self) -> dict[str, Tensor]:
        state = dict(super()._state()) | {f"fisher {name}": value for name, value in self.fisher.items()}
        if self._optimizer is not None:
            for name, weight in self._weights.items():
                if weight in self._optimizer.state:
                    state |= {f"{part} {name}": self._optimizer.state[weight][part] for part in MOMENTS}
        return state

    def _load(self, state: Mapping[str, Tensor], noted: Mapping[str, Any]) -> None:
        super()._load(state, noted)
        self._begin()
        self.calls, self.steps = noted["calls"], noted["steps"]
        device = self.backbone.device
        self.fisher = {name: state[f"fisher {name}"].to(device) for name in self._weights if f"fisher {name}" in state}
        self._optimizer = self._new_optimizer()
        for name, weight in self._weights.items():
            if f"{MOMENTS[0]} {name}" in state:
                moments = {part: state[f"{part} {name}"].to(device) for part in MOMENTS}
                self._optimizer.state[weight] = {"step": torch.tensor(float(self.steps), device=device), **moments}

    def checkpoint(self) -> dict[str, Any]:
        """Write the weights, the optimiser's moments and the Fisher information."""
        return super().checkpoint() | {"calls": self.calls, "steps": self.steps}


def _draw(values: Sequence[Any], count: int, generator: torch.Generator) -> list[Any]:
    """Return some of the values, drawn without repetition; all of them if there are not as many."""
    return [values[i] for i in torch.randperm(len(values), generator=generator)[:count].tolist()]
