"""Read what linear modules are given in a pass, and the loss's gradient by what they write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def probing(model: nn.Module, names: Sequence[str], probes: dict[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Keep what each module is given, and add zeros to what it writes, whose gradient is that of its output.

    Args:
        model: the model.
        names: the modules' names.
        probes: gets, by name, what a module is given (R, L, in) and the zeros (R, L, out).
    """
    modules = {model.get_submodule(name): name for name in names}

    def probe(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        zeros = torch.zeros_like(output, requires_grad=True)
        probes[modules[module]] = args[0].detach(), zeros
        return output + zeros

    handles = [module.register_forward_hook(probe) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
