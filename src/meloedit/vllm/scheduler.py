"""Scheduler: keeps what an edit changed out of vLLM's prefix cache (``--scheduler-cls meloedit.vllm.Scheduler``).

From the last token of a prompt on, the keys and values above an edited module are those of the edit. The prefix cache
knows them by their tokens alone, and would hand them to whoever sends the same question and answer: to the next turn of
every chat, which the base model or another edit may answer. So only the prompt but its last token is kept.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler as SyncScheduler

from ..errors import ModelError
from .start.checks import check_config, check_version


class _Keeping:
    """What both schedulers of vLLM get."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_version()
        check_config(self.vllm_config)  # type: ignore[attr-defined]
        coordinator: Any = getattr(self.kv_cache_manager, "coordinator", None)  # type: ignore[attr-defined]
        commit = getattr(coordinator, "cache_blocks", None)
        if commit is None or getattr(coordinator, "enable_partial_hash_hits", False):
            raise ModelError("this vLLM keeps its prefix cache in a way that meloedit does not know")

        def prompts_alone(request: Any, count: int, *more: Any, **named: Any) -> Any:
            return commit(request, min(count, request.num_prompt_tokens - 1), *more, **named)

        coordinator.cache_blocks = prompts_alone


class _Asynchronous(_Keeping, AsyncScheduler):
    """For asynchronous scheduling, which is vLLM's default where it can be."""


class _Synchronous(_Keeping, SyncScheduler):
    """For scheduling one pass after another."""


class Scheduler:
    """Makes the scheduler of the kind that vLLM was started for."""

    def __new__(cls, vllm_config: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a scheduler; the arguments are those of vLLM's own."""
        made = _Asynchronous if vllm_config.scheduler_config.async_scheduling else _Synchronous
        return made(vllm_config, *args, **kwargs)
