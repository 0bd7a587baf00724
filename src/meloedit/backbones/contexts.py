"""Contexts around calls of a model: frozen weights, layers that run once, layers that are skipped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep the base model out of autograd and free of dropout, and put both settings back."""
    open_weights = [weight for weight in model.parameters() if weight.requires_grad]
    was_training = [module for module in model.modules() if module.training]
    for weight in open_weights:
        weight.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        for weight in open_weights:
            weight.requires_grad_(True)
        for module in was_training:
            module.training = True


@contextmanager
def run_once(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let layers run once: in the block, each further call gives what its first call gave.

    For many passes over the same inputs, of which only what lies above these layers changes.
    """
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer, _ in before:
        layer.forward = _kept(layer.forward)
    try:
        yield
    finally:
        for layer, own in before:
            del layer.forward
            if own is not None:  # another's wrapper
                layer.forward = own


def _kept(forward: Callable[..., Any]) -> Callable[..., Any]:
    made: list[Any] = []

    def again(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(forward(*args, **kwargs))
        return made[0]

    return again


@contextmanager
def skip_layers(layers: Sequence[nn.Module], output: Any) -> Iterator[None]:
    """Let this thread's calls of some successive layers return ``output``, that of the last of them, at once."""
    thread = threading.get_ident()
    own = [(layer, layer.__dict__.get("forward"), layer.forward) for layer in layers]

    def short(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return output if threading.get_ident() == thread else forward(*args, **kwargs)

        return call

    for layer, _, forward in own:
        layer.forward = short(forward)
    try:
        yield
    finally:
        for layer, patched, _ in own:
            del layer.__dict__["forward"]
            if patched is not None:  # another's wrapper
                layer.__dict__["forward"] = patched
