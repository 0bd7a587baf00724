"""Contexts for calls of a model: weights frozen, calls recorded, layers run once, layers skipped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

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


class Call(NamedTuple):
    """One call of a module: what it was called with, and what it returned."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def record_calls(modules: Iterable[nn.Module]) -> Iterator[list[Call]]:
    """Record this thread's calls of modules into the list that is given, in the order in which they return."""
    calls: list[Call] = []
    thread = threading.get_ident()

    def record(module: nn.Module, args: tuple[Any, ...], *kwargs_and_output: Any) -> None:
        # Other threads may be using the model. While a hook comes or goes, torch may call it there without kwargs.
        if threading.get_ident() == thread:
            calls.append(Call(module, args, *kwargs_and_output))

    handles = [module.register_forward_hook(record, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


Forward = Callable[..., Any]


@contextmanager
def _patched_forwards(layers: Iterable[nn.Module], patch: Callable[[Forward], Forward]) -> Iterator[None]:
    """Replace the ``forward`` of each layer by what ``patch`` makes of it, and put it back."""
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer, _ in before:
        layer.forward = patch(layer.forward)
    try:
        yield
    finally:
        for layer, wrapper in before:
            del layer.forward
            if wrapper is not None:  # another library's, for example accelerate's
                layer.forward = wrapper


def run_once(layers: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Let layers run once: in the block, each further call returns what the first call returned.

    For many passes over the same inputs, of which only what lies above these layers changes.
    """

    def patch(forward: Forward) -> Forward:
        first: list[Any] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if not first:
                first.append(forward(*args, **kwargs))
            return first[0]

        return call

    return _patched_forwards(layers, patch)


def skip_layers(layers: Sequence[nn.Module], output: Any) -> AbstractContextManager[None]:
    """Skip successive layers in this thread: each returns ``output``, that of the last of them, at once."""
    thread = threading.get_ident()

    def patch(forward: Forward) -> Forward:
        def call(*args: Any, **kwargs: Any) -> Any:
            return output if threading.get_ident() == thread else forward(*args, **kwargs)

        return call

    return _patched_forwards(layers, patch)
