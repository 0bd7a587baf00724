"""Find the feed-forward of a layer by what it does: it works on each token alone, where attention reads other tokens.

No name of a family or of a module is needed. The model runs once on a few tokens. Then each part of a layer runs again
on what it was given, with every token but the last replaced by NaN. The last token's output stays a number if the part
reads that token alone. It becomes NaN in attention, in linear attention, in a convolution and in a state-space mixer,
however little of the other tokens reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..errors import ModelError
from ..text import shorten
from .contexts import Call, own_run, record_calls
from .layers import linear_shape

if TYPE_CHECKING:
    from .base import Backbone

PROBE = 4
"""Tokens of the trial call."""
PROJECTION = "the projection that brings the feed-forward back to the residual stream"
SHARED = "the shared expert's projection to the residual stream, as the other experts do not see every token"
WHOLE = "the output of the whole feed-forward, as no linear module that sees every token brings it back"


QUANTISED_TOGETHER = "modules that quantise all they are given by one scale cannot be edited: quantise weights alone"


@dataclass(frozen=True)
class FeedForward:
    """The module at which a layer's feed-forward is edited.

    Attributes:
        module: its name.
        why: what it is, in words.
        linear: whether it is a linear module; if not, it is a whole feed-forward.
    """

    module: str
    why: str
    linear: bool


def states_of(value: Any) -> Tensor | None:
    """Return the states of tokens in what a module returned: the tensor itself, or the first of several."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first if isinstance(first, Tensor) and first.dim() in (2, 3) else None


def feed_forwards(backbone: Backbone, names: Sequence[str]) -> list[FeedForward | None]:
    """Return for each named layer where its feed-forward is edited; ``None`` for a layer that has none.

    Raises:
        ModelError: if a layer never runs, or no hook can edit its feed-forward.
    """
    model = backbone.model
    layers = [model.get_submodule(name) for name in names]
    with own_run(model):
        with record_calls({module: None for layer in layers for module in layer.modules()}) as calls:
            model(**backbone.probe_inputs(PROBE))
        seen = {id(call.module): call for call in calls}
        return [_choose(name, layer, seen) for name, layer in zip(names, layers, strict=True)]


def feed_forward_linear(backbone: Backbone, layer: str) -> str:
    """Return the linear module by which a layer's feed-forward writes to the residual stream.

    Raises:
        ModelError: if the layer has none.
    """
    (found,) = feed_forwards(backbone, [layer])
    if found is None or not found.linear:
        raise ModelError(f"no linear module of {layer} writes the output of a feed-forward: choose another layer")
    return found.module


def feed_forward_linears(backbone: Backbone, layer: str) -> list[str]:
    """Return the linear modules of a layer's feed-forward: those that read the residual stream, then the writing one.

    The first are those of the last one's shape, turned round: one, or two where the feed-forward is gated.

    Raises:
        ModelError: as ``feed_forward_linear``.
    """
    writer = feed_forward_linear(backbone, layer)
    inner, outer = linear_shape(backbone.model.get_submodule(writer)) or (0, 0)
    for place in (writer.rpartition(".")[0], layer) if inner != outer else ():
        named = backbone.model.get_submodule(place).named_modules()
        if readers := [f"{place}.{name}" for name, module in named if linear_shape(module) == (outer, inner)]:
            return [*readers, writer]
    return [writer]


def _choose(name: str, layer: nn.Module, seen: Mapping[int, Call]) -> FeedForward | None:
    """Return where the feed-forward of a layer is edited.

    Among the linear modules that see every token and write to the residual stream, it is the one with the widest
    input, as the feed-forward is the widest part of a layer. Among equals it is the one that runs last.
    """
    if id(layer) not in seen:
        raise ModelError(f"layer {name} is never called: name the modules to edit")
    stream = states_of(seen[id(layer)].output)
    if stream is None:
        raise ModelError(f"layer {name} gives no states to look at: name the modules to edit")
    width = stream.shape[-1]
    parts = [
        (path, part)
        for path, part in _parts(layer, seen)
        if _has_matrices(part) and _works_alone(f"{name}.{path}", part, seen[id(part)])
    ]
    linears = {
        id(module): f"{path}.{below}" if below else path
        for path, part in parts
        for below, module in part.named_modules()
        if linear_shape(module) and id(module) in seen and _sees_all(seen[id(module)])
    }
    experts = [part for _, part in parts if _is_mixture(part)]
    of_experts = {
        id(module)
        for part in experts
        for group in part.modules()
        if isinstance(group, nn.ModuleList)
        for module in group.modules()
    }
    # a linear module inside a linear one is a piece of it: what an adapter adds, or what it was put around
    pieces = {id(piece) for _, part in parts for one in part.modules() if linear_shape(one) for piece in _below(one)}
    running = [key for key in seen if key in linears.keys() - pieces]  # in the order in which they return
    writers = [key for key in running if key not in of_experts and seen[key].output.shape[-1] == width]
    if len(running) > 1 and writers:
        best = max(reversed(writers), key=lambda key: seen[key].args[0].shape[-1])
        return FeedForward(f"{name}.{linears[best]}", SHARED if experts else PROJECTION, True)
    wholes = [(path, part) for path, part in parts if not linear_shape(part)]
    if not wholes:
        return None
    path, part = max(wholes, key=lambda item: sum(weight.numel() for weight in item[1].parameters()))
    given, returned = seen[id(part)].args[:1], states_of(seen[id(part)].output)
    if not given or states_of(given) is None or returned is None or returned.shape[-1] != width:
        raise ModelError(f"no hook can edit the output of the feed-forward {name}.{path}: name the modules to edit")
    return FeedForward(f"{name}.{path}", WHOLE, False)


def _below(module: nn.Module) -> Iterator[nn.Module]:
    return (piece for child in module.children() for piece in child.modules())


def _parts(module: nn.Module, seen: Mapping[int, Call], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a layer that it calls; a container that is never called is opened."""
    for name, child in module.named_children():
        if id(child) in seen:
            yield prefix + name, child
        else:
            yield from _parts(child, seen, f"{prefix}{name}.")


def _has_matrices(part: nn.Module) -> bool:
    """Return whether a part multiplies by matrices, be it those of a router or of experts. A norm has none."""
    return any(map(linear_shape, part.modules())) or any(weight.dim() >= 2 for weight in part.parameters())


def _is_mixture(part: nn.Module) -> bool:
    """Return whether a part has experts: in one parameter (experts, out, in), or in a list of modules."""
    fused = any(weight.dim() >= 3 for weight in part.parameters())
    return fused or any(isinstance(module, nn.ModuleList) and len(module) > 1 for module in part.modules())


def _sees_all(call: Call) -> bool:
    """Return whether a module was given all tokens of the trial call, as its only argument by position."""
    states = states_of(call.args)
    return states is not None and states.shape[:-1].numel() == PROBE and isinstance(call.output, Tensor)


def _works_alone(name: str, part: nn.Module, call: Call) -> bool:
    """Return whether a part's output at a token depends on that token alone.

    On the meta device, without values, nothing tells it: every part passes, and the widest decides.

    Raises:
        ModelError: if it fails where other tokens are no numbers.
    """
    try:
        output = states_of(part(*map(_last_alone, call.args), **{n: _last_alone(v) for n, v in call.kwargs.items()}))
    except RuntimeError as error:
        raise ModelError(f"{name} cannot be looked at ({shorten(str(error), 100)}): {QUANTISED_TOGETHER}") from None
    if output is None or output.shape[:-1].numel() != PROBE:
        return False
    return output.is_meta or not bool(output[..., -1, :].isnan().any())


def _last_alone(value: Any) -> Any:
    """Return states with every token but the last replaced by NaN; no cache, as it has the tokens as they were."""
    if hasattr(value, "get_seq_length"):
        return None
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() not in (2, 3):
        return value
    value = value.clone()
    value[..., :-1, :] = float("nan")
    return value
