"""Editing methods behind one protocol: the two modes of this package and the rivals that they are compared with.

A method takes a model, makes edits in it, answers prompts, and gives the model back unedited; ``base.Method`` is the
protocol, and ``meloedit eval`` scores whatever follows it. The rooms: ``memory`` keeps edits beside the model and
chooses one per prompt, ``weights`` changes weights for all prompts, ``located`` changes them where the subject is read,
``patches`` adds neurons beside a feed-forward, ``in_context`` writes edits into the prompt, ``learned`` learns from
training edits how to make others.

To add a method to this package (another package adds one by an entry point: ``docs/add-a-method.md``):

1. Write a subclass of ``base.Method`` in the room that fits: at least ``_edit``, ``_reset`` and ``size``, and
   ``_remove`` if single edits can be removed. Its settings are a subclass of ``settings.Settings``.
2. Write ``checkpoint`` and ``restore``, so that an interrupted evaluation can go on; ``checkpoint.py`` stores tensors.
   A method whose edits are changed weights of the model has all of this but ``_edit`` from ``changed.py``.
3. Add a line to ``METHODS`` below, and quick settings to ``QUICK`` in ``tests/methods/test_methods.py``: its
   tests of the protocol then run on the method.
4. Describe it and its defaults in the table of rivals in ``docs/evaluation.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import MeloEditError
from .third_party import third_party_class, third_party_names

if TYPE_CHECKING:
    from .base import Method

METHODS = {
    "melo": ("memory.melo", "Melo"),
    "melo-paper": ("memory.melo", "MeloPaper"),
    "grace": ("memory.grace", "Grace"),
    "wise": ("memory.wise", "Wise"),
    "lora": ("weights.lora", "Lora"),
    "ft": ("weights.ft", "FineTuning"),
    "locft": ("weights.locft", "LocFt"),
    "cmr": ("weights.cmr", "Cmr"),
    "ultraedit": ("weights.ultraedit", "UltraEdit"),
    "rome": ("located.rome", "Rome"),
    "memit": ("located.memit", "Memit"),
    "alphaedit": ("located.alphaedit", "AlphaEdit"),
    "tpatcher": ("patches.tpatcher", "TPatcher"),
    "calinet": ("patches.calinet", "CaliNet"),
    "mend": ("learned.mend", "Mend"),
    "serac": ("learned.serac", "Serac"),
    "rag": ("in_context.rag", "Rag"),
    "ike": ("in_context.ike", "Ike"),
    "none": ("none", "Unedited"),
}
"""Each method's name, and the module and the class behind it, which are imported on first use."""


def method_names() -> list[str]:
    """Return the names of all methods: this package's, then those of other installed packages."""
    return list(dict.fromkeys([*METHODS, *third_party_names()]))


def method_class(name: str) -> type[Method]:
    """Return the class of a method: one of ``METHODS``, or else one of another package (``third_party``).

    Raises:
        MeloEditError: with the known names, if there is no such method; or if another package's cannot be used.
    """
    if name in METHODS:
        module, class_name = METHODS[name]
        method: type[Method] = getattr(import_module(f".{module}", __name__), class_name)
        return method
    other = third_party_class(name)
    if other is None:
        raise MeloEditError(f"no method {name!r}; there are: {', '.join(method_names())}")
    return other


def removal_of(method: type[Method]) -> str:
    """Return how a method removes single edits: ``exact``, ``approximate`` or ``none``."""
    return "none" if not method.removes else "exact" if method.removes_exactly else "approximate"
