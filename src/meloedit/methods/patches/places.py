"""Where neurons are added: a feed-forward, found by what runs in it, and the hooks that add to what it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from ...backbones.contexts import Call, own_run, record_calls
from ...backbones.feed_forward import PROBE, feed_forward_linear
from ...backbones.layers import linear_shape
from ...errors import MeloEditError

if TYPE_CHECKING:
    from ...backbones.base import Backbone

Extra = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Place:
    """A feed-forward: ``writer(act(reader(x)))``, or with a gate, ``writer(act(gate(x)) * reader(x))``.

    Attributes:
        name: the writer's name.
        reader: a linear module that is given what the feed-forward is given.
        writer: the linear module that writes to the residual stream.
        act: the activation.
        gated: whether the activation is multiplied by something before it is written.
        width: d, the numbers per token that it is given and that it writes.
    """

    name: str
    reader: nn.Module
    writer: nn.Module
    act: Callable[[Tensor], Tensor]
    gated: bool
    width: int


def find_place(backbone: Backbone, layer: str, method: str, activation: str = "") -> Place:
    """Find the parts of a layer's feed-forward by running the model once on a few tokens.

    The linear module that runs last before the writer reads what the feed-forward is given: no family of models has
    another one between them. The activation is the module without weights that runs between the two.

    Args:
        backbone: the model.
        layer: the layer's name.
        method: the method's name, for errors.
        activation: the activation's name in transformers; empty: the model's own.

    Raises:
        ModelError: if no linear module writes what the layer's feed-forward gives.
        MeloEditError: if its other parts are not found, or there is no such activation.
    """
    if activation and activation not in ACT2FN:
        raise MeloEditError(f"method {method}: no activation {activation!r}; there are: {', '.join(sorted(ACT2FN))}")
    name = feed_forward_linear(backbone, layer)
    model = backbone.model
    writer = model.get_submodule(name)
    tokens: Any = model.get_input_embeddings()
    # several tokens, as the embedding of a padding token may be zero, which is all that its layers then give
    inputs = {
        key: (ids + torch.arange(PROBE, device=ids.device)) % tokens.weight.shape[0]
        for key, ids in backbone.probe_inputs(PROBE).items()
    }
    with own_run(model), record_calls(model.get_submodule(layer).modules()) as calls:
        model(**inputs)
    end = next(i for i, call in enumerate(calls) if call.module is writer)
    wide = calls[end].args[0]
    readers = [call for call in calls[:end] if _reads(call, wide)]
    if not readers:
        raise MeloEditError(f"method {method} cannot find what reads the input of the feed-forward of {layer}")
    acts = [call for call in calls[:end] if _activates(call, wide)]
    if not acts and not activation:
        raise MeloEditError(f"method {method} cannot find the activation in {layer}: name it ({method}.activation)")
    return Place(
        name=name,
        reader=readers[-1].module,
        writer=writer,
        act=cast(Any, ACT2FN[activation] if activation else acts[-1].module),
        gated=bool(acts) and not torch.equal(acts[-1].output, wide),
        width=readers[-1].args[0].shape[-1],
    )


def _reads(call: Call, wide: Tensor) -> bool:
    """Return whether a linear module gives what the writer reads, or that beside its gate in one."""
    if linear_shape(call.module) is None or not call.args or not isinstance(call.output, Tensor):
        return False
    widths = (wide.shape[-1], 2 * wide.shape[-1])
    return call.output.shape[:-1] == wide.shape[:-1] and call.output.shape[-1] in widths


def _activates(call: Call, wide: Tensor) -> bool:
    """Return whether a module has no weights and changes each number by itself; dropout changes none here."""
    if not call.args or not isinstance(call.output, Tensor) or call.output.shape != wide.shape:
        return False
    if any(True for _ in call.module.parameters()) or any(True for _ in call.module.children()):
        return False
    given = call.args[0]
    return given.shape == wide.shape and not torch.equal(given, call.output)


class Beside:
    """Hooks that add to what a feed-forward writes; without anything to add its output stays as it is.

    Args:
        place: the feed-forward.
        extra: gives what is added (..., d) to what is written, from what it is given (..., d); ``None``: nothing.

    Attributes:
        given: what the feed-forward was given last (..., d).
    """

    def __init__(self, place: Place, extra: Extra) -> None:
        self._extra = extra
        self.given: Tensor | None = None
        self._handles = [
            place.reader.register_forward_pre_hook(self._read),
            place.writer.register_forward_hook(self._write),
        ]
        self.place = place

    def _read(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.given = args[0]

    def _write(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        assert self.given is not None, "the reader runs before the writer"
        more = self._extra(self.given)
        return output if more is None else output + more.to(output.dtype)

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()


def last_layers(stack: nn.ModuleList, last: int, count: int) -> range:
    """Return the numbers of ``count`` layers that end with ``last``, fewer if the stack begins before."""
    return range(max(0, min(last, len(stack) - 1) - count + 1), min(last, len(stack) - 1) + 1)
