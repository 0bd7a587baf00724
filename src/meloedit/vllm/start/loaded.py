"""Whether vLLM loads the plugin at all: where it does not, nobody would open the store, and the base model answer."""

from __future__ import annotations

import os
from typing import Any

from ...errors import ModelError
from .checks import STORE

PLUGIN = "meloedit"
"""The plugin's name among vLLM's entry points."""
NOT_LOADED = (
    "vLLM was not told to load meloedit's plugin, which opens the store: the base model would answer; set "
    "VLLM_PLUGINS=meloedit, besides the plugins that it names (where it does, vLLM's log says why it failed)"
)


def check_plugins() -> None:
    """Refuse a vLLM whose ``VLLM_PLUGINS`` leaves this plugin out.

    Raises:
        ModelError: saying so.
    """
    named = os.environ.get("VLLM_PLUGINS")
    if named is not None and PLUGIN not in named.split(","):
        raise ModelError(NOT_LOADED)


def wants_edits(config: Any) -> bool:
    """Return whether vLLM was started to serve edits: with a store, or with the plugin's worker.

    Args:
        config: vLLM's ``VllmConfig``.
    """
    named = str(config.parallel_config.worker_extension_cls)
    return STORE in dict(config.additional_config or {}) or named.startswith("meloedit.")
