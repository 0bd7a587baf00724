"""UltraEdit (arXiv 2505.14679) as in its authors' code (XiaojieGu/UltraEdit): one step of normalised gradients.

A turn reads, at each token that predicts a target's, what a matrix is given (h) and the loss's gradient by what it
writes (g). Both are normalised over all turns so far. The matrix then changes, by ridge regression, so that it writes
-lr |h|^2 g more where it is given h. Matrices of one shape share the statistics of the normalisation, as in the
authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.contexts import frozen
from ...errors import MeloEditError
from ..changed import ChangedMatrices
from ..free_memory import check_room
from ..probing import probing
from ..settings import Settings
from .normalizer import Normalizer

if TYPE_CHECKING:
    from ...backbones.batch import Example
    from ...edit import Edit

PARTS = ("mean", "spread")
"""The tensors of a normaliser."""


@dataclass(frozen=True)
class UltraEditSettings(Settings):
    """Settings under the authors' names, with their defaults for Mistral-7B; layers at their relative depth.

    Attributes:
        depth: relative depth of the last edited layer in the last stack, from 0 to 1.
        layers: how many layers are edited.
        lr: length of a step. It fits the model's width: the step grows with the number of inputs.
        batch_size: edits whose gradient is taken together.
        end_token: learn the token that ends an answer, too; the authors do not, and their answers do not stop.
    """

    shares = ("depth",)
    edits_per_call: int = 100
    depth: float = 0.94
    layers: int = 2
    lr: float = 1e-6
    batch_size: int = 10
    end_token: bool = True


@dataclass
class _Read:
    """What one matrix was given (n, in) and the gradients by what it wrote (n, out), at all tokens of a turn."""

    given: list[Tensor]
    gradients: list[Tensor]


class UltraEdit(ChangedMatrices):
    """Changes a few matrices in closed form, a turn of edits at a time."""

    name = "ultraedit"
    Settings = UltraEditSettings
    unfit = {"document": "it takes gradients where tokens of an answer are predicted, and a label has none"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backbone.documents:
            raise MeloEditError(
                f"method {self.name} cannot serve {type(self.model).__name__}: {self.unfit['document']}"
            )
        prefix, last = self.layer_at(self.settings.depth)
        self.keep_matrices(prefix, range(max(0, last - self.settings.layers + 1), last + 1))
        self.normalizers: dict[str, Normalizer] = {}

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice for the square of a matrix's inputs."""
        side = max(self.shape(name)[0] for name in self.modules)
        size = next(iter(self._weights.values())).element_size()
        check_room(self.name, 4 * side**2 * max(size, 4), "its regression", self.backbone.device)

    def _edit(self, edits: Sequence[Edit]) -> None:
        settings = self.settings
        examples = self.examples(edits)
        if not settings.end_token:
            examples = [replace(example, target=example.target[:-1]) for example in examples]
        # The authors sort a turn by length, so that little is padded. The parts decide what is normalised by what.
        examples.sort(key=lambda one: -(len(one.prompt) + len(one.target)))
        reads = {name: _Read([], []) for name in self.modules}
        for start in range(0, len(examples), settings.batch_size):
            self._read(examples[start : start + settings.batch_size], reads)
        for name in self.modules:
            self._step(name, torch.cat(reads[name].given), torch.cat(reads[name].gradients))

    def _read(self, examples: Sequence[Example], reads: Mapping[str, _Read]) -> None:
        """Take what the matrices are given, and the gradients, at the tokens that predict targets."""
        probes: dict[str, tuple[Tensor, Tensor]] = {}
        with frozen(self.model), torch.enable_grad(), probing(self.model, self.modules, probes):
            logits = self.backbone.target_logits(examples)
            targets = torch.tensor([token for one in examples for token in one.target], device=logits[0].device)
            loss = nn.functional.cross_entropy(torch.cat(list(logits)).to(self._dtype), targets)
            loss.backward()
        follows = self.backbone.answer_follows_prompt
        for name, (given, probe) in probes.items():
            assert probe.grad is not None, "the loss depends on every edited layer"
            places = [
                (i, start, start + len(one.target))
                for i, one in enumerate(examples)
                for start in [len(one.prompt) - 1 if follows else 0]
            ]
            keys, gradients = (
                torch.cat([value[i, start:stop] for i, start, stop in places]).to(self._dtype)
                for value in (given, probe.grad)
            )
            reads[name].given.append(keys)
            reads[name].gradients.append(gradients)
            self._normalizer(name).update(torch.cat([keys, gradients], dim=1))

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(next(iter(self._weights.values())).dtype, torch.float32)

    def _step(self, name: str, given: Tensor, gradients: Tensor) -> None:
        """Change a matrix."""
        normal = self._normalizer(name)(torch.cat([given, gradients], dim=1))
        inputs = given.shape[1]
        length = normal[:, :inputs].square().sum(1, keepdim=True)
        wanted = -self.settings.lr * length * normal[:, inputs:]
        square = given.T @ given + torch.eye(inputs, dtype=given.dtype, device=given.device)
        self.change(name, torch.linalg.solve(square, given.T @ wanted).T)

    def _normalizer(self, name: str) -> Normalizer:
        """Return the normaliser that a matrix shares with those of its shape."""
        shape = self.shape(name)
        like = torch.zeros(0, dtype=self._dtype, device=self.backbone.device)
        return self.normalizers.setdefault(f"{shape[0]}x{shape[1]}", Normalizer.empty(sum(shape), like))

    def _reset(self) -> None:
        super()._reset()
        self.normalizers = {}

    def _state(self) -> dict[str, Tensor]:
        seen = {f"{part} {key}": getattr(one, part) for key, one in self.normalizers.items() for part in PARTS}
        return super()._state() | seen

    def _load(self, state: Mapping[str, Tensor], noted: Mapping[str, Any]) -> None:
        super()._load(state, noted)
        self.normalizers = {
            key: Normalizer(count, *(state[f"{part} {key}"].to(self.backbone.device) for part in PARTS))
            for key, count in noted["counts"].items()
        }

    def checkpoint(self) -> dict[str, Any]:
        """Write the changed matrices and the statistics of the normalisation."""
        return super().checkpoint() | {"counts": {key: one.count for key, one in self.normalizers.items()}}
