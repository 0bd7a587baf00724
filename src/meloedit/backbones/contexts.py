"""What is put around calls of a model and taken off again: hooks, frozen weights, records of calls, skipped layers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..callers.precision import exact


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Freeze the weights and switch dropout off; afterwards restore both as they were."""
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
def own_run(model: nn.Module) -> Iterator[None]:
    """Run a model for this package's own purposes: frozen, without gradients, in its own number format."""
    with torch.no_grad(), frozen(model), ExitStack() as kinds:
        for kind in {"cpu", *(weight.device.type for weight in model.parameters())} - {"meta"}:
            kinds.enter_context(exact(torch.device(kind)))
        yield


class Call(NamedTuple):
    """One call of a module: its arguments and its output."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def record_calls(modules: Iterable[nn.Module]) -> Iterator[list[Call]]:
    """Give a list that fills with this thread's calls of the modules, in the order in which they return."""
    calls: list[Call] = []
    thread = threading.get_ident()

    def record(module: nn.Module, args: tuple[Any, ...], *kwargs_and_output: Any) -> None:
        # Other threads may be using the model. While a hook is added or removed, torch may call it in them without
        # kwargs, hence the loose signature.
        if threading.get_ident() == thread:
            calls.append(Call(module, args, *kwargs_and_output))

    handles = [module.register_forward_hook(record, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def reading_only(head: nn.Module, at: tuple[torch.Tensor, ...]) -> Iterator[list[nn.Module]]:
    """Let an output embedding read, in this thread's calls, the states (R, L, d) at some places alone, as (1, M, d).

    Args:
        head: the output embedding.
        at: (M,) the rows and (M,) the columns of the places.

    Yields:
        A list, which has the embedding once for each call that was narrowed; empty where a model does not call it.
    """
    narrowed: list[nn.Module] = []
    thread = threading.get_ident()

    def narrow(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() != thread or not args:
            return None
        narrowed.append(module)
        return (args[0][at][None], *args[1:])

    handle = head.register_forward_pre_hook(narrow)
    try:
        yield narrowed
    finally:
        handle.remove()


Forward = Callable[..., Any]


@contextmanager
def _patched_forwards(layers: Iterable[nn.Module], patch: Callable[[Forward], Forward]) -> Iterator[None]:
    """Replace the ``forward`` of each layer by ``patch(forward)``, and restore it afterwards."""
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer, _ in before:
        layer.forward = patch(layer.forward)
    try:
        yield
    finally:
        for layer, wrapper in before:
            del layer.forward
            if wrapper is not None:  # one that another library had set, for example accelerate
                layer.forward = wrapper


def run_once(layers: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Run each layer once: inside the context, every further call returns the output of the first.

    It saves time where many passes have the same inputs and only the layers above these change.
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
    """Skip successive layers in this thread: each returns ``output``, the output of the last of them, at once."""
    thread = threading.get_ident()

    def patch(forward: Forward) -> Forward:
        def call(*args: Any, **kwargs: Any) -> Any:
            return output if threading.get_ident() == thread else forward(*args, **kwargs)

        return call

    return _patched_forwards(layers, patch)


class Attachment:
    """Hooks and attributes that are put on a model's modules; ``remove`` takes them off.

    A compiler that saw a module without hooks runs it without them later, too: torch does not guard on the absence of
    hooks. It does guard on ``forward`` being the class's own, also in what it compiled for another model of this class.
    So each module with a hook gets a ``forward`` of its own, which does the same: compiled code is then made again. A
    compiler leaves the hooks themselves as they are: what they do differs from call to call.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._before: list[tuple[nn.Module, str, Any, Any]] = []
        self._seen: set[int] = set()

    def hook(
        self, module: nn.Module, before: Forward | None = None, after: Forward | None = None, **kinds: Any
    ) -> None:
        """Hook a module.

        Args:
            module: the module.
            before: called before it runs, with its arguments by name.
            after: called after it ran.
            kinds: further arguments of ``register_forward_hook``.
        """
        if before is not None:
            self._handles.append(module.register_forward_pre_hook(torch.compiler.disable(before), with_kwargs=True))
        if after is not None:
            self._handles.append(module.register_forward_hook(torch.compiler.disable(after), **kinds))
        if id(module) not in self._seen:
            self._seen.add(id(module))
            self.set(module, "forward", _same(module))

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        """Give a module an attribute, in the place of one that another library may have set."""
        self._before.append((module, name, value, module.__dict__.get(name)))
        module.__dict__[name] = value

    @property
    def attached(self) -> bool:
        """Whether there are hooks."""
        return bool(self._handles)

    def remove(self) -> None:
        """Take everything off, which leaves the modules as they were before; what others put in its place stays."""
        for handle in self._handles:
            handle.remove()
        for module, name, value, before in reversed(self._before):
            if module.__dict__.get(name) is not value:
                continue
            del module.__dict__[name]
            if before is not None:
                module.__dict__[name] = before
        self._handles, self._before, self._seen = [], [], set()


def _same(module: nn.Module) -> Forward:
    """Return a function that does what a module's ``forward`` does and that a compiler takes for another one."""
    own = module.__dict__.get("forward")
    if own is None:
        return MethodType(type(module).forward, module)

    @wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return own(*args, **kwargs)

    return forward
