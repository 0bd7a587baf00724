"""EngineService: what the edits' routes of ``meloedit serve`` work with where vLLM answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import MeloEditError
from ...serve.failures import RefusedError
from ...serve.running.thread import ModelThread
from ...serve.service import Service
from ...serve.settings import ServeSettings
from ...serve.statistics import Statistics
from ...serve.tokens import Caller, Tokens
from .store_editor import TRAINS, StoreEditor

if TYPE_CHECKING:
    from ...backbones.prompts import CausalPrompts
    from ...editor import Editor
    from ...serve.changes import Job

T = TypeVar("T")

logger = logging.getLogger("meloedit.vllm")

POLL = 1.0
"""Seconds between two looks at what the worker says."""
REACH = 30.0
"""Seconds that a change may take until the worker answers with it; afterwards it is told, and comes later."""


class EngineService(Service):
    """A store whose edits answer in vLLM.

    Args:
        client: vLLM's ``EngineClient``.
        loop: the event loop that it runs in.
        facts: what the worker said when it opened the store.
    """

    def __init__(self, client: Any, loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        self.client, self._loop, self.facts = client, loop, facts
        self.prompts: CausalPrompts
        self._begin(ServeSettings(console=False), Tokens())
        self._poll: asyncio.Task[None] | None = None

    def take(self, editor: Editor | StoreEditor) -> None:
        """Let changes go through this editor."""
        self.editor = editor  # type: ignore[assignment]
        self.name = Path(str(editor.store.model["name"])).name or "model"
        self.statistics = Statistics(editor.store.path)
        self.trains = not isinstance(editor, StoreEditor)
        if self.trains:
            self.model = ModelThread(self.editor, self.settings.max_batch, self.settings.max_waiting)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # where keys are made and prompts asked by themselves
            raise RefusedError(501, TRAINS.format(command="meloedit scan"), code="no_model")
        raise AttributeError(name)

    @property
    def revision(self) -> int:
        """The revision that answers, as the worker said last."""
        return int(self.facts["revision"])

    @property
    def ready(self) -> bool:
        """Whether changes are taken and followed."""
        return self.changes.alive and self.trouble is None and self.facts.get("trouble") is None

    def start(self) -> None:
        """Start the threads; called in the event loop."""
        self.changes.start()
        if self.trains:
            self.model.start()
        self._poll = self._loop.create_task(self._look())

    def stop(self) -> None:
        """Stop them."""
        if self._poll is not None:
            self._poll.cancel()
        self.changes.stop()
        if self.trains:
            self.model.stop()

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the worker."""
        (result, *_) = await self.client.collective_rpc(method, args=args)
        return result

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            try:
                self.facts = await self.call("melo_facts")
            except Exception as error:  # the engine may be gone: vLLM says so itself
                logger.debug("the worker does not answer: %s", error)

    def signed(self, by: Caller, action: str, ids: Sequence[str], expected: int | None, work: Callable[[], T]) -> T:
        """Change the store under a caller's name, and return once vLLM answers with it."""
        done = super().signed(by, action, ids, expected, work)
        self.reach(self.editor.store.revision)
        return done

    def submit(self, job: Job, key: str | None, body: Any) -> tuple[Job, bool]:
        """Let a job wait for its turn; one that needs a model is refused at once where there is none.

        Raises:
            RefusedError: with 501, naming the command that does it.
        """
        if not self.trains and job.kind != "rollback":
            raise RefusedError(501, TRAINS.format(command=f"meloedit {job.kind}"), code="no_model")
        job.work = partial(self._reaching, job.work)
        return super().submit(job, key, body)

    def _reaching(self, work: Callable[[Job], Iterator[None]], job: Job) -> Iterator[None]:
        """Do the work of a job; each of its parts is done once vLLM answers with it."""
        for _ in work(job):
            self.reach(self.editor.store.revision)
            yield

    def reach(self, revision: int) -> None:
        """Wait until the worker answers with a revision; called outside the event loop.

        Raises:
            MeloEditError: if it does not in time.
        """
        asyncio.run_coroutine_threadsafe(self._reach(revision), self._loop).result()

    async def _reach(self, revision: int) -> None:
        end = time.monotonic() + REACH
        await self.call("melo_wake")
        while True:
            self.facts = await self.call("melo_facts")
            if self.facts["revision"] >= revision:
                return
            if (trouble := self.facts["trouble"]) or time.monotonic() > end:
                raise MeloEditError(
                    f"revision {revision} is stored, and vLLM still answers with {self.facts['revision']}"
                    + (f": {trouble}" if trouble else "; it will follow")
                )
            await asyncio.sleep(0.05)
