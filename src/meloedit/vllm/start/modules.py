"""The modules of vLLM's models that edits act on, by the names that the store has for them."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import ModelError


def module_of(model: Any, name: str) -> Any:
    """Return a module of one of vLLM's models.

    Raises:
        ModelError: if it has none of this name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ModelError(
            f"{type(model).__name__} of this vLLM has no module {name!r}, where the store's edits act "
            "(a mixture of experts, say): it cannot be served"
        ) from None


def linear_of(model: Any, name: str) -> Any:
    """Return a linear of one of vLLM's models, to whose output blocks can be added.

    Raises:
        ModelError: if it is none, or quantised.
    """
    linear = module_of(model, name)
    weight = getattr(linear, "weight", None)
    if not hasattr(getattr(linear, "quant_method", None), "apply") or not isinstance(weight, torch.Tensor):
        raise ModelError(f"module {name!r} is a {type(linear).__name__} in vLLM, which blocks cannot be added to")
    if "Unquantized" not in type(linear.quant_method).__name__:
        raise ModelError(f"module {name!r} is quantised by vLLM: the store's keys were made on other weights")
    return linear
