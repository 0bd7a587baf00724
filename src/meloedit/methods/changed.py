"""What methods that change weights of the model in place share: the weights, what they were, their size, the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..backbones.feed_forward import feed_forward_linear
from ..backbones.layers import linear_shape
from ..errors import MeloEditError
from .base import Method, Size
from .checkpoint import read_state, write_state

if TYPE_CHECKING:
    from ..edit import Edit


class ChangedWeights(Method):
    """A method whose edits lie in weights of the model; a subclass names them to ``keep`` when it is made."""

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Note the weights that edits change, by name, and copy them as they are now."""
        self._weights = dict(weights)
        self._originals = {name: weight.detach().clone() for name, weight in weights.items()}

    def _reset(self) -> None:
        self._put(self._originals)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])

    def size(self) -> Size:
        """Return the size of the changed weights."""
        return Size.of(self._weights.values() if self.edits else ())

    def _state(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, by name."""
        return self._weights

    def _load(self, state: Mapping[str, Tensor], noted: Mapping[str, Any]) -> None:
        """Bring back what ``_state`` returned; ``noted`` is what ``checkpoint`` did."""
        for name, weight in self._weights.items():
            if name not in state or state[name].shape != weight.shape:
                raise MeloEditError(
                    f"method {self.name}: the state does not fit {name}: it is of another model or settings"
                )
        self._put(state)

    def checkpoint(self) -> dict[str, Any]:
        """Write the changed weights, and what else the method needs to go on."""
        return write_state(self.folder, self._state())

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back what ``checkpoint`` wrote.

        Raises:
            MeloEditError: if it cannot be read, is damaged, or is of another version, model or settings.
        """
        self._load(read_state(self.folder, noted), noted)
        super().restore(noted, edits)


class ChangedMatrices(ChangedWeights):
    """A method that adds updates to the feed-forward output matrices of some layers."""

    def keep_matrices(self, prefix: str, numbers: Iterable[int]) -> None:
        """Keep the matrices of layers.

        Args:
            prefix: the name of their stack.
            numbers: their numbers in it.

        Raises:
            MeloEditError: if a layer has no such matrix, or it is quantised.
        """
        self.keep_modules([feed_forward_linear(self.backbone, f"{prefix}.{i}") for i in numbers])

    def keep_modules(self, names: Sequence[str]) -> None:
        """Keep the matrices of linear modules.

        Raises:
            MeloEditError: if one is quantised.
        """
        self.modules = list(names)
        weights = {name: cast(Tensor, self.model.get_submodule(name).weight) for name in self.modules}
        if whole := [name for name, weight in weights.items() if not weight.is_floating_point()]:
            raise MeloEditError(f"method {self.name} cannot change the quantised weights of {whole[0]}")
        self.keep(weights)

    def shape(self, name: str) -> tuple[int, int]:
        """Return how many inputs and outputs a matrix has."""
        shape = linear_shape(self.model.get_submodule(name))
        assert shape is not None, "feed_forward_linear gives linear modules"
        return shape

    def change(self, name: str, update: Tensor) -> None:
        """Add an update (out, in) to a matrix, which transformers' ``Conv1D`` has as (in, out)."""
        weight, module = self._weights[name], self.model.get_submodule(name)
        with torch.no_grad():
            weight += (update.T if hasattr(module, "nf") else update).to(weight)
