"""Transformer-Patcher (arXiv 2301.09785) as in its authors' code (ZeroYuHuang/Transformer-Patcher): a neuron per error.

A patch is a few neurons beside the feed-forward of the last layer, FFN(q) + act(q k + b) v, one for each token of the
target that the model gets wrong. Three losses train it: the edit's, one that makes a neuron active at the token
that it is for, and one that keeps it inactive at tokens of other text, and of earlier edits. The model's own weights
stay as they are, and so do earlier patches. A patch can be taken out again.

The authors patch BERT and BART, whose feed-forwards have no gate. One with a gate (SwiGLU) gets the same neurons,
without a gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...backbones.contexts import frozen
from ...errors import MeloEditError
from ...training.trainer import seeded
from ..base import Method, Size
from ..checkpoint import read_state, write_state
from ..data_files import read_texts
from ..free_memory import check_room
from .losses import activation_loss, memory_loss, smoothed_loss
from .memory import remembered
from .parts import Part, predicting
from .places import Beside, find_place
from .tpatcher_settings import TPatcherSettings

if TYPE_CHECKING:
    from ...backbones.batch import Example
    from ...edit import Edit

GRADIENT = 5.0
"""Greatest norm of a step's gradient."""
LESS = 1e-3
"""By how much a memory loss must be smaller than the least so far to count as smaller."""
FALL = 0.05
"""Share by which the edit's loss must fall, or the learning rate does."""


@dataclass
class Patch:
    """The n neurons of an edit.

    Attributes:
        keys: (n, d) what a query is multiplied by.
        biases: (n,) what is added to that.
        values: (n, d) what a neuron writes.
        queries: (T, d) what the feed-forward is given at the tokens that predict the target; later patches keep off.
    """

    keys: Tensor
    biases: Tensor
    values: Tensor
    queries: Tensor

    @classmethod
    def joined(cls, patches: Iterable[Patch]) -> Patch:
        """Return the neurons of several patches as one, in their order."""
        rows = [(patch.keys, patch.biases, patch.values, patch.queries) for patch in patches]
        return cls(*(torch.cat(column) for column in zip(*rows, strict=True)))


@dataclass
class _Training:
    """A patch in training: what Adam changes, and what it is trained on."""

    keys: Tensor  # (n, d)
    biases: Tensor  # (n,)
    raw: Tensor  # (n, d) the values before ``scale`` multiplies them
    scale: Tensor  # (n, d)
    own: Tensor  # (n, d) each neuron's own query

    @property
    def weights(self) -> list[Tensor]:
        return [self.keys, self.biases, self.raw, self.scale]

    def activations(self) -> Tensor:
        """Return what each neuron has at its own query (n,)."""
        return (self.keys * self.own).sum(1) + self.biases


class TPatcher(Method):
    """Adds a few neurons to the last feed-forward for each edit."""

    name = "tpatcher"
    Settings = TPatcherSettings
    removes = True
    removes_exactly = False  # later patches were trained beside the one that is taken out, to keep off its queries
    unfit = {"document": "it adds a neuron for each wrong token of an answer, and a label has none"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backbone.documents:
            raise MeloEditError(f"method tpatcher cannot serve {type(self.model).__name__}: {self.unfit['document']}")
        prefix, number = self.layer_at(1.0)
        self.place = find_place(self.backbone, f"{prefix}.{number}", self.name, self.settings.activation)
        self.patches: dict[str, Patch] = {}
        self._joined: Patch | None = None
        self._training: _Training | None = None
        self._memory: tuple[Tensor, Tensor] | None = None
        self._beside = Beside(self.place, self._written)

    def check(self) -> None:
        """Raise a MeloEditError if the file of texts to remember cannot be read, or the memory of them has no room."""
        if self.settings.text:
            read_texts(self.settings.text)
        queries = self.settings.memory_size + self.settings.val_memory_size
        itemsize = max(self.backbone.model.dtype.itemsize, torch.float32.itemsize)
        # kept as they were read, and once more, beside earlier edits' queries, while a patch trains
        need = 2 * itemsize * self.place.width * queries
        check_room(self.name, need, f"the memory of {queries:,} tokens", self.backbone.device)

    # -- answering

    def _written(self, given: Tensor) -> Tensor | None:
        """Return what all patches write (..., d), from what the feed-forward is given (..., d)."""
        parts, training = [], self._training
        if self._joined is not None:
            parts.append((self._joined.keys, self._joined.biases, self._joined.values))
        if training is not None:
            parts.append((training.keys, training.biases, training.raw * training.scale))
        written = None
        for keys, biases, values in parts:
            more = self.place.act(given.to(keys.dtype) @ keys.T + biases) @ values
            written = more if written is None else written + more
        return written

    def _join(self) -> None:
        self._joined = Patch.joined(self.patches.values()) if self.patches else None

    def _remove(self, ids: Sequence[str]) -> None:
        """Take patches out; the others stay as they are."""
        self.patches = {name: patch for name, patch in self.patches.items() if name not in ids}
        self._join()

    def _reset(self) -> None:
        self.patches = {}
        self._join()

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        if self._memory is None:
            sizes = self.settings.memory_size, self.settings.val_memory_size
            self._memory = remembered(self.backbone, self._beside, self.settings.text, sizes, self.name)
        for edit in edits:
            self._remove([edit.id])
            patch = self._learn(self.examples([edit]), len(self.patches))
            if patch is not None:
                self.patches[edit.id] = patch
                self._join()

    def _learn(self, rows: Sequence[Example], number: int) -> Patch | None:
        """Train a patch on an edit's wordings; ``None`` if the model answers all of them already."""
        assert self._memory is not None, "it is made before the first edit"
        settings = self.settings
        with frozen(self.model):
            part = Part.of(self.backbone, rows, self.place.name)
            assert self._beside.given is not None, "the feed-forward has run"
            queries = predicting(self.backbone, rows, self._beside.given)
            with torch.no_grad():
                wrong = (part.logits().argmax(-1) != part.targets).split([len(row.target) for row in rows])
            own = [
                of_row[at[: settings.max_add_neuron_num]]
                for of_row, flags in zip(queries, wrong, strict=True)
                for at in [flags.nonzero().flatten()]
            ]
            dtype = torch.promote_types(queries[0].dtype, torch.float32)
            if not len(at := torch.cat(own).to(dtype)):
                return None
            past = [patch.queries for patch in self.patches.values()]
            memories = [torch.cat([memory, *past]).to(dtype) for memory in self._memory]
            self._training = _start(at, settings.amplify_con, seeded(settings.seed, number, self.name))
            try:
                with torch.enable_grad():
                    self._train(part, memories[0], memories[1])
                done = self._training
            finally:
                self._training = None
        values = (done.raw * done.scale).detach()
        return Patch(done.keys.detach(), done.biases.detach(), values, torch.cat(queries).detach().to(dtype))

    def _train(self, part: Part, memory: Tensor, other_memory: Tensor) -> None:
        """Train until, of the looks at which the edit is right, one has no smaller memory loss than those before."""
        settings, training = self.settings, self._training
        assert training is not None, "the caller has begun it"
        for weight in training.weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.Adam(training.weights, lr=settings.lr, weight_decay=settings.weight_decay)
        plateau = ReduceLROnPlateau(
            optimizer, factor=settings.lr_scheduler_factor, patience=settings.lr_scheduler_patience, threshold=FALL
        )
        looks: list[float] = []
        for step in range(settings.max_edit_step):
            optimizer.zero_grad()
            own, logits = training.activations(), self._logits(part)
            loss = smoothed_loss(logits, part.targets, settings.eps)
            loss = loss + settings.alc * self._activation_loss(own) + settings.mlc * self._memory_loss(own, memory)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(training.weights, GRADIENT)
            optimizer.step()
            if (step + 1) % settings.check_val_every_n_epoch:
                continue
            with torch.no_grad():
                logits = self._logits(part)
                if step >= settings.start_val_epoch and bool((logits.argmax(-1) == part.targets).all()):
                    looks.append(self._memory_loss(training.activations(), other_memory).item())
                    if ended(looks, settings.early_patience):
                        break
                plateau.step(smoothed_loss(logits, part.targets, settings.eps).item())

    def _logits(self, part: Part) -> Tensor:
        logits = part.logits()
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _activation_loss(self, own: Tensor) -> Tensor:
        settings = self.settings
        return activation_loss(own, settings.act_margin_val, settings.top_act, settings.example_repeat)

    def _memory_loss(self, own: Tensor, memory: Tensor) -> Tensor:
        settings, training = self.settings, self._training
        assert training is not None, "only a patch in training has losses"
        remembered = memory @ training.keys.T + training.biases
        margins = settings.margin_val1, settings.margin_val2
        return memory_loss(remembered, own, margins, settings.top_memory, settings.example_repeat)

    # -- size and state

    def size(self) -> Size:
        """Return the size of the neurons; the queries that later patches keep off are left out."""
        patches = self.patches.values()
        return Size.of(part for patch in patches for part in (patch.keys, patch.biases, patch.values))

    def details(self) -> dict[str, Any]:
        """Say how many neurons there are, and how many edits needed none."""
        neurons = sum(len(patch.keys) for patch in self.patches.values())
        return {"neurons": neurons, "edits_without_a_patch": len(self.edits) - len(self.patches)}

    def checkpoint(self) -> dict[str, Any]:
        """Write the patches."""
        tensors = {
            f"{part} {i}": getattr(patch, part) for i, patch in enumerate(self.patches.values()) for part in PARTS
        }
        return write_state(self.folder, tensors) | {"patches": list(self.patches)}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the patches."""
        tensors, device = read_state(self.folder, noted), self.backbone.device
        self.patches = {
            name: Patch(*(tensors[f"{part} {i}"].to(device) for part in PARTS))
            for i, name in enumerate(noted["patches"])
        }
        self._join()
        super().restore(noted, edits)

    def close(self) -> None:
        """Take the hooks off the feed-forward."""
        self.reset()
        self._beside.remove()


PARTS = ("keys", "biases", "values", "queries")
"""The tensors of a patch."""


def _start(own: Tensor, scale: float, generator: torch.Generator) -> _Training:
    """Return a new patch for the queries (n, d), each neuron of which has 1 at its own query, and a random value."""
    keys = own / own.square().sum(1, keepdim=True)
    raw = torch.randn(own.shape, generator=generator, dtype=own.dtype).to(own.device)
    return _Training(keys, torch.zeros_like(own[:, 0]), raw, torch.full_like(own, scale), own)


def ended(losses: Sequence[float], patience: int) -> bool:
    """Return whether the memory losses of the looks so far have stopped falling (the authors' early stop).

    Args:
        losses: one or more, in their order.
        patience: looks after the least that are let pass.
    """
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best] - LESS:
            best = i
    return best < len(losses) - patience
