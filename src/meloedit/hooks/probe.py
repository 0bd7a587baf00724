"""A forward call that finds out what the modules see, before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backbones.contexts import frozen
from ..errors import ModelError
from .blocks import Site

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations

PROBE = 4
"""Tokens of the forward call that finds out what the modules see."""


def input_norm(x: Tensor) -> float:
    """Return the mean over tokens of the L1 norm of a module's input (1, T, in); 1 where there are no values (meta).

    The first token is left out: its activations can be massive.
    """
    return 1.0 if x.is_meta else float(x[0, 1:].float().abs().sum(1).mean())


def probe_model(backbone: Backbone, locations: Locations) -> tuple[list[Site], Tensor]:
    """Run the model on a few tokens; return sizes, dtype and device of each target module, and the key layer's states.

    Kernels and wrappers can replace a parent's forward and pass its children by; then hooks would never fire and edits
    would silently do nothing.
    """
    ran: list[str] = []
    sites: dict[str, Site] = {}
    states: list[Tensor] = []

    def note(name: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            ran.append(name)
            if name == locations.key_layer:
                state = output if isinstance(output, Tensor) else output[0]
                if state.dim() != 3 or state.shape[:2] != (1, PROBE):
                    raise ModelError(f"key layer {name!r} does not give one state a token: choose another")
                states.append(state)
            if name in locations.modules:
                x = args[0]
                if x.shape[:2] != (1, PROBE):
                    raise ModelError(f"module {name!r} does not see its input row by row: choose another")
                sites[name] = Site(name, x.shape[-1], output.shape[-1], x.dtype, x.device, input_norm(x))

        return hook

    watched = [locations.key_layer, *locations.modules]
    handles = [backbone.model.get_submodule(name).register_forward_hook(note(name)) for name in watched]
    try:
        with frozen(backbone.model), torch.no_grad():
            backbone.model(**backbone.probe_inputs(PROBE))
    finally:
        for handle in handles:
            handle.remove()
    if silent := [name for name in watched if name not in ran]:
        raise ModelError(f"module {silent[0]!r} is never called by {type(backbone.model).__name__}: choose another")
    if ran[0] != locations.key_layer:
        raise ModelError(f"{ran[0]!r} runs before the key layer {locations.key_layer!r}: keys must be complete first")
    return [sites[name] for name in locations.modules], states[0]
