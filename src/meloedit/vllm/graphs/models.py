"""An out-of-tree model class: vLLM's own class of any architecture, with the key read and the blocks added.

The general plugin registers ``meloedit.vllm.graphs.models:NAME`` in the place of the architecture ``NAME`` where the
environment names it (``start.checks.CLASS``). vLLM imports it late: this module makes the class when it is asked for.

The two places are put in before the weights are loaded, and so before vLLM compiles: the key layer and the method of
each edited linear become instances of a subclass of what they were. Names, weights and loading stay vLLM's.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError
from ...store import Store
from ..edits.host import settings_of
from ..start import checks
from ..start.modules import linear_of, module_of
from . import ops
from .seat import SEAT, Seat
from .shards import shard_of
from .wide import WideBlocks


def __getattr__(name: str) -> Any:
    """Return the edited class of an architecture.

    Raises:
        AttributeError: if this vLLM has no such architecture.
    """
    if name.startswith("_"):
        raise AttributeError(name)
    # not the registry that plugins change, in which this class stands itself
    from vllm.model_executor.models.registry import _VLLM_MODELS

    if name not in _VLLM_MODELS:
        raise AttributeError(f"this vLLM has no architecture {name!r}")
    module, own = _VLLM_MODELS[name]
    path = module if module.startswith("vllm.") else f"vllm.model_executor.models.{module}"
    return edited(getattr(import_module(path), own))


def edited(base: type) -> type:
    """Return a subclass of one of vLLM's model classes that has an op behind the key layer and in each edited module.

    It is the base class as it is where ``--additional-config`` names no store.

    Args:
        base: a class that generates text, made with ``vllm_config`` and ``prefix``.
    """

    class Edited(base):
        melo_seat: Seat | None = None

        def __init__(self, *, vllm_config: Any, prefix: str = "", **more: Any) -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **more)
            if path := dict(vllm_config.additional_config or {}).get(checks.STORE):
                self.melo_seat = prepare(self, vllm_config, str(path))

        def compute_logits(self, *args: Any, **kwargs: Any) -> Any:
            logits = super().compute_logits(*args, **kwargs)
            if self.melo_seat is not None and self.melo_seat.served is not None and isinstance(logits, Tensor):
                self.melo_seat.served.spell(logits)
            return logits

        def get_model_state_cls(self) -> type:
            """Return what vLLM's V2 runner keeps beside the model; its V1 runner does not ask."""
            from .state import state_class

            own = getattr(super(), "get_model_state_cls", None)
            if own is None:
                from vllm.v1.worker.gpu.model_states.default import DefaultModelState as default

                return state_class(default)
            return state_class(own())

    Edited.__name__ = base.__name__
    Edited.__qualname__ = base.__qualname__
    Edited.__module__ = __name__
    return Edited


def prepare(model: Any, vllm_config: Any, path: str) -> Seat:
    """Put the two ops into a model whose weights are not loaded yet, and return what they work with.

    Args:
        model: one of vLLM's models.
        vllm_config: its ``VllmConfig``; the ops are entered in it.
        path: the store, which says what is edited.

    Raises:
        MeloEditError: if the store cannot be served, or the model has no such modules.
    """
    settings = settings_of(Store.open(path), type(model).__name__)
    modules, key_layer = tuple(settings.modules or ()), str(settings.key_layer)
    checks.check_config(vllm_config, ops=True)
    layer, linears = module_of(model, key_layer), {name: linear_of(model, name) for name in modules}
    weight = next(iter(linears.values())).weight
    scheduler, config = vllm_config.scheduler_config, vllm_config.model_config
    wide = WideBlocks(
        {name: shard_of(name, linear) for name, linear in linears.items()},
        scheduler.max_num_batched_tokens,
        scheduler.max_num_seqs,
        settings.max_rank,
        max(settings.answer_positions or 0, settings.max_answer_positions),
        config.get_hidden_size(),
        weight.dtype,
        weight.device,
    )
    seat = Seat(wide, linears, key_layer)
    _read_in(layer, wide)
    for name, linear in linears.items():
        _add_in(linear, wide, name)
    _enter(vllm_config.compilation_config, seat)
    if isinstance(extra := vllm_config.additional_config, dict):
        # vLLM knows what it compiled before by its settings: a store that edits other modules needs another graph
        extra["meloedit_graph"] = [key_layer, *modules, *wide.owners.shape, wide.places_at_most]
    return seat


def _enter(compilation: Any, seat: Seat) -> None:
    """Let the op find the seat, and vLLM split its graphs where the op stands."""
    compilation.static_forward_context[SEAT] = seat
    if compilation.splitting_ops is not None and ops.TAKE not in compilation.splitting_ops:
        compilation.splitting_ops.append(ops.TAKE)


def _hold(module: Any, tensors: Mapping[str, Tensor]) -> None:
    """Give a module tensors that are no weights."""
    for name, tensor in tensors.items():
        module.register_buffer(f"melo_{name}", tensor, persistent=False)


def _read_in(layer: Any, wide: WideBlocks) -> None:
    """Let a decoder layer hand on its states."""
    kind = type(layer)

    class ReadingLayer(kind):  # type: ignore[misc,valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            hidden, residual = (output[0], output[1]) if isinstance(output, tuple) else (output, None)
            torch.ops.meloedit.take_states(hidden, residual, self.melo_states, self.melo_rows, self.melo_places, SEAT)
            return output

    _hold(layer, {"states": wide.states, "rows": wide.rows, "places": wide.places})
    ReadingLayer.__name__ = f"Reading{kind.__name__}"
    layer.__class__ = ReadingLayer


def _add_in(linear: Any, wide: WideBlocks, name: str) -> None:
    """Let a linear add blocks before the sum over ranks."""
    method = linear.quant_method
    kind = type(method)

    class AddingMethod(kind):  # type: ignore[misc,valid-type]
        def apply(self, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            y = super().apply(layer, x, *args, **kwargs)
            return torch.ops.meloedit.add_blocks(
                x,
                y,
                layer.melo_rows,
                layer.melo_places,
                layer.melo_owners,
                layer.melo_a,
                layer.melo_b,
                layer.melo_p,
                layer.melo_acted,
            )

    table = wide.tables[name]
    shared = {"rows": wide.rows, "places": wide.places, "owners": wide.owners}
    _hold(linear, {**shared, **table._asdict()})
    AddingMethod.__name__ = f"Adding{kind.__name__}"
    if kind.__dict__.get("__slots__"):
        raise ModelError(f"module {name!r} has a {kind.__name__} that blocks cannot be added to")
    linear.quant_method = _as(method, AddingMethod)


def _as(method: Any, kind: type) -> Any:
    """Return a copy of a linear's method as an instance of a subclass: other linears may share the method."""
    made: Any = object.__new__(kind)
    made.__dict__.update(vars(method))
    return made
