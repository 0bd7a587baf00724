"""Edits as adapters that other engines read: PEFT folders, written and read back, and several fused into one.

A block without answer positions that acts on every token is a plain LoRA. ``layout`` says what a folder holds,
``exporting`` writes one for each edit, ``importing`` reads them back, ``fusing`` makes one of many, ``checking`` asks
the adapters through PEFT. An adapter answers wherever it is switched on: the router stays here, see ``serve.proxy``.
"""

from .exporting import Exported, export_store
from .index import Index, read_index
from .layout import adapter_name

__all__ = ["Exported", "Index", "adapter_name", "export_store", "read_index"]
