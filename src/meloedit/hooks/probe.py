"""A trial forward call that checks, before anything relies on it, that the hooks will see what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..backbones.contexts import Call, own_run, record_calls
from ..backbones.feed_forward import PROBE, QUANTISED_TOGETHER, states_of
from ..errors import ModelError
from .blocks import Site

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations


LARGE = 1000.0
"""By how much the other tokens of the trial call are multiplied."""
MAX_CHANGE = 0.25
"""Share of a token's output that may change with the others: 8-bit modules compute large columns apart."""


def input_norm(x: Tensor) -> float:
    """Return the mean over tokens of the L1 norm of a module's input (T, in); 1 on the meta device, without values.

    The first token is left out: its activations can be massive.
    """
    return 1.0 if x.is_meta else float(x[1:].float().abs().sum(1).mean())


def probe_model(backbone: Backbone, locations: Locations) -> tuple[list[Site], Tensor]:
    """Run the model on a few tokens, and describe its target modules.

    Kernels and wrappers can replace a parent's forward so that it skips its children. Then hooks would never fire, and
    edits would silently do nothing.

    Returns:
        The target modules in order, and the states (1, PROBE, d) that the key layer returned.

    Raises:
        ModelError: if a module does not run, runs before the key layer, or does not work token by token.
    """
    model = backbone.model
    watched = {name: model.get_submodule(name) for name in (locations.key_layer, *locations.modules)}
    with own_run(model), record_calls(watched.values()) as calls:
        model(**backbone.probe_inputs(PROBE))
    ran = [(name, call) for call in calls for name, module in watched.items() if module is call.module]
    sites: dict[str, Site] = {}
    states: list[Tensor] = []
    for name, call in ran:
        if name == locations.key_layer:
            states.append(_key_states(name, call))
        if name in locations.modules:
            sites[name] = _site(backbone, name, call)
    names = [name for name, _ in ran]
    if silent := [name for name in watched if name not in names]:
        raise ModelError(f"module {silent[0]!r} is never called by {type(model).__name__}: choose another")
    if names[0] != locations.key_layer:
        raise ModelError(f"{names[0]!r} runs before the key layer {locations.key_layer!r}: keys must be complete first")
    return [sites[name] for name in locations.modules], states[0]


def _key_states(name: str, call: Call) -> Tensor:
    state: Tensor = call.output if isinstance(call.output, Tensor) else call.output[0]
    if state.dim() != 3 or state.shape[:2] != (1, PROBE):
        raise ModelError(f"key layer {name!r} does not give one state a token: choose another")
    return state


def _site(backbone: Backbone, name: str, call: Call) -> Site:
    x, y = states_of(call.args), states_of(call.output)
    if x is None or y is None or x.shape[:-1] != y.shape[:-1] or x.shape[:-1] not in ((1, PROBE), (PROBE,)):
        raise ModelError(f"module {name!r} does not see its input row by row: choose another")
    if x.dim() == 2 and _is_one_of_several(backbone, name):
        raise ModelError(f"module {name!r} may see a part of the tokens, as an expert does: choose another")
    if not x.is_meta and not _keeps_apart(call, x):
        raise ModelError(f"module {name!r} lets the tokens of a call change each other: {QUANTISED_TOGETHER}")
    return Site(name, x.shape[-1], y.shape[-1], x.dtype, x.device, input_norm(x.reshape(PROBE, -1)))


def _keeps_apart(call: Call, x: Tensor) -> bool:
    """Return whether the last token's output stays about the same where the others are large.

    One scale for all would round the last token away: what an edited row says would change the other rows of a batch.
    The input is made up, since that of the trial call may be zero.
    """
    even = torch.arange(x.numel(), device=x.device, dtype=torch.float32).cos().reshape(x.shape).to(x.dtype)
    large = even.clone()
    large[..., :-1, :] *= LARGE
    with own_run(call.module):
        found = [states_of(call.module(given, *call.args[1:], **call.kwargs)) for given in (even, large)]
    before, after = (one[..., -1, :].float() for one in found if one is not None)
    return float((after - before).norm()) <= MAX_CHANGE * float(before.norm())


def _is_one_of_several(backbone: Backbone, name: str) -> bool:
    """Return whether a module lies in a list of modules inside its layer."""
    stack, layer = backbone.layer_of(name)
    above = f"{backbone.stacks[stack][0]}.{layer}"
    for part in name.removeprefix(above + ".").split("."):
        above = f"{above}.{part}"
        if isinstance(backbone.model.get_submodule(above), nn.ModuleList):
            return True
    return False
