"""The edited model inside vLLM: edits answer in its own passes, with continuous batching and prefix caching.

``meloedit vllm STORE -- FLAGS`` starts it (``launch.py``). This floor has what vLLM's flags and entry points name; the
rooms behind it have the rest. What runs where::

    every process        plugin.py     the general plugin: refuses what cannot be right, registers classes with ops
    the engine           scheduler.py  keeps what an edit changed out of the prefix cache
    the worker           worker.py     the methods that ``collective_rpc`` reaches
      at the start         start/checks.py       what is refused, one line each
                           start/fingerprint.py  is it the store's base model?
           start/loaded.py       does vLLM load the plugin at all?
      -> edits/host.py     the model as the routing sees it; opens the store
      -> edits/follower.py reads its changes in a thread, and swaps them in between two passes
      -> edits/requests.py the route of each request, decided where its prompt ends
      -> edits/passes.py   whose tokens a pass has; the key layer's states by KV slot
      -> runners/          what is read of, and put around, vLLM's two model runners
      in an eager pass     eager/hooks.py   where the plugin reads and writes; eager/served.py: what it does there
      -> eager/deltas.py   adds the blocks to the rows of the tokens that they act on
      in a compiled pass   graphs/models.py the class with two ops (graphs/ops.py); graphs/served.py: what it does
      -> graphs/wide.py    the blocks of a pass side by side, in tables that never move
      -> graphs/shards.py  the part of a block that one rank has
      -> graphs/state.py   what vLLM's V2 runner tells of its passes
    the API server       endpoints.py  the edits under /v1, by the same routes as ``meloedit serve``
      -> server/           the service and the editor behind them

No module here is imported by the rest of the package, and none imports vLLM before it is needed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Endpoints", "Scheduler", "Worker", "register"]

_HOME = {"Endpoints": "endpoints", "Scheduler": "scheduler", "Worker": "worker", "register": "plugin"}


def __getattr__(name: str) -> Any:
    """Import what vLLM's flags and entry points name, once it is asked for."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("Scheduler", "Worker"):  # vLLM's flags name them, whichever plugins it loads
        import_module(".start.loaded", __name__).check_plugins()
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
