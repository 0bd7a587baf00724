"""The general plugin: vLLM runs ``register`` in each of its processes, before it builds anything."""

from __future__ import annotations

from typing import Any

from ..errors import ModelError
from .start.checks import edited_class
from .start.loaded import NOT_LOADED, PLUGIN, wants_edits

MODELS = "meloedit.vllm.graphs.models"
"""The module that makes the classes of models with ops."""

BEAMS = (
    "beam search sends each beam as a prompt of its own, whose end meloedit cannot see: sample (n, temperature) instead"
)


def register() -> None:
    """Refuse what would answer with the wrong edit, and give the model its ops; do nothing in servers without edits."""
    try:
        from vllm.entrypoints.generate.beam_search.offline import BeamSearchOfflineMixin
        from vllm.entrypoints.generate.beam_search.online import BeamSearchOnlineMixin
    except ImportError:  # another vLLM; ``check_version`` says so where a store is opened
        return
    if (name := edited_class()) is not None:
        from vllm import ModelRegistry

        ModelRegistry.register_model(name, f"{MODELS}:{name}")
    for mixin in (BeamSearchOfflineMixin, BeamSearchOnlineMixin):
        _refuse(mixin)
    import vllm.plugins

    _watch(vllm.plugins)


class Guard:
    """Takes the place of the endpoints where vLLM's server has not loaded them: nobody would open the store."""

    name = "meloedit-guard"
    required_tasks = None

    def attach_router(self, app: Any) -> None:
        """Add no route."""

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Let a server start that has no edits to serve.

        Raises:
            ModelError: if it has: the base model would answer, and nobody would know.
        """
        if engine_client is not None and wants_edits(engine_client.vllm_config):
            raise ModelError(NOT_LOADED)


def _watch(plugins: Any) -> None:
    """Put the guard where vLLM loads endpoints and ours are not among them: it loads none that are not named."""
    load = plugins.load_endpoint_plugins
    if hasattr(load, "meloedit"):
        return

    def load_endpoint_plugins(*args: Any, **kwargs: Any) -> Any:
        found = list(load(*args, **kwargs))
        return found if any(getattr(one, "name", None) == PLUGIN for one in found) else [*found, Guard()]

    load_endpoint_plugins.meloedit = True  # type: ignore[attr-defined]
    plugins.load_endpoint_plugins = load_endpoint_plugins


def _refuse(mixin: Any) -> None:
    """Put a refusal before the beam search of a class, for engines that have the plugin's worker."""
    search = mixin.beam_search
    if hasattr(search, "meloedit"):
        return

    def beam_search(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _serves_edits(self):
            raise ModelError(BEAMS)
        return search(self, *args, **kwargs)

    beam_search.meloedit = True  # type: ignore[attr-defined]
    mixin.beam_search = beam_search


def _serves_edits(server: Any) -> bool:
    """Return whether an engine was started with the plugin's worker."""
    for name in ("llm_engine", "engine_client"):
        config = getattr(getattr(server, name, None), "vllm_config", None)
        if config is not None:
            return "meloedit" in str(config.parallel_config.worker_extension_cls)
    return False
