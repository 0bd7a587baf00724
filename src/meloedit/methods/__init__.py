"""Editing methods behind one protocol: the two modes of this package and its rivals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import MeloEditError

if TYPE_CHECKING:
    from .base import Method

METHODS = {
    "melo": ("memory.melo", "Melo"),
    "melo-paper": ("memory.melo", "MeloPaper"),
    "grace": ("memory.grace", "Grace"),
    "lora": ("weights.lora", "Lora"),
    "ft": ("weights.ft", "FineTuning"),
    "rag": ("in_context.rag", "Rag"),
    "none": ("none", "Unedited"),
}
"""Each method's name, and the module and the class behind it; imported once it is asked for."""


def method_class(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        MeloEditError: with the known names, if there is no such method.
    """
    if name not in METHODS:
        raise MeloEditError(f"no method {name!r}; there are: {', '.join(METHODS)}")
    module, attribute = METHODS[name]
    found: type[Method] = getattr(import_module(f".{module}", __name__), attribute)
    return found
