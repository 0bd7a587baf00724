"""ProxyService: decides which adapter answers each prompt, and keeps the other server's adapters in view."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...adapters.exporting import blocks_of, check_exportable, export_store
from ...adapters.layout import adapter_name
from ...errors import MeloEditError, StoreError
from ...results import Route
from ...text import counted, join_names
from ..running.thread import QueueFullError
from ..running.ticket import Started
from ..service import Service
from ..settings import ServeSettings
from ..tokens import Tokens

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...editor import Editor
    from .upstream import Upstream

logger = logging.getLogger("meloedit.serve")

LOOK = 5.0
"""Seconds between two looks at which adapters the other server has."""
AT_ONCE = 64
"""Prompts that are routed together."""


class Routed(NamedTuple):
    """Which model of the other server answers a prompt.

    Attributes:
        started: the prompt's route, the revision that decided it, and why.
        model: the name of an adapter, or of the base model.
    """

    started: Started
    model: str


class ProxyService(Service):
    """A service whose answers another server makes.

    Args:
        editor: the store, on its model.
        settings: the limits.
        tokens: who may do what.
        upstream: the other server.
        adapters: the folder in which adapters of new edits are written; ``None``: none are.

    Raises:
        StoreError: if the store's blocks are no LoRAs.
    """

    def __init__(
        self,
        editor: Editor,
        settings: ServeSettings,
        tokens: Tokens,
        upstream: Upstream,
        adapters: str | Path | None = None,
    ) -> None:
        super().__init__(editor, settings, tokens)
        store = editor.store
        if store.config.get("mode", "default") == "default" and store.config.get("reach") != "all":
            raise StoreError(f"{store.path} makes blocks that are no LoRAs: make one with meloedit init --for-export")
        check_exportable(store, store.edits(), "peft")
        self.upstream = upstream
        self.under_way = 0
        self._adapters = None if adapters is None else Path(adapters).absolute()
        self._names: dict[int, str] = {}  # holder of a block -> its adapter
        self._waiting: list[tuple[Encoded, asyncio.Future[Routed]]] = []
        self._routing = False
        self._looked = 0.0
        self._tried: int | None = None  # the revision whose adapters were brought, or could not be
        self._exported: int | None = None
        self._told: set[str] = set()
        self.metrics.gauge("requests_under_way", "Requests that the upstream server answers.", lambda: self.under_way)

    @property
    def ready(self) -> bool:
        """Whether prompts are routed, and the other server could be reached last time."""
        return super().ready and self.upstream.trouble is None

    # -- routing

    async def route(self, encoded: Encoded) -> Routed:
        """Return which model answers a prompt; prompts that come meanwhile are routed together."""
        future: asyncio.Future[Routed] = asyncio.get_running_loop().create_future()
        self._waiting.append((encoded, future))
        if not self._routing:
            self._routing = True
            asyncio.ensure_future(self._route_waiting())
        return await future

    async def _route_waiting(self) -> None:
        try:
            while self._waiting:
                part, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._route_part(part)
        finally:
            self._routing = False

    async def _route_part(self, part: Sequence[tuple[Encoded, asyncio.Future[Routed]]]) -> None:
        """Route some prompts in the model's thread, and tell those who wait for them."""
        encoded = [one for one, _ in part]
        try:
            routed = await asyncio.wrap_future(self.model.call(lambda: self._route(encoded)))
        except Exception as error:
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(part, routed, strict=True):
            if not future.done():  # else its client went away
                future.set_result(result)

    def _route(self, encoded: Sequence[Encoded]) -> list[Routed]:
        """Route prompts; called in the model's thread. Again, if the store changes meanwhile."""
        engine = self.editor.engine
        while True:
            revision = engine.revision
            routes = engine.route(encoded)
            names = [self._model_of(route) for route in routes]
            if engine.revision == revision and None not in names:
                return [
                    Routed(Started(route, revision, route.reason), str(name))
                    for route, name in zip(routes, names, strict=True)
                ]

    def _model_of(self, route: Route) -> str | None:
        """Return the name of the model for a route; ``None`` if its edit has just gone."""
        if route.edit is None:
            return self.upstream.model
        stored = self.editor.store.find(route.edit)
        if stored is None:
            return None
        if stored.holder not in self._names:
            self._names[stored.holder] = adapter_name(blocks_of(self.editor.store, [stored])[0])
        return self._names[stored.holder]

    def base(self) -> Routed:
        """Return what answers where the base model is meant."""
        return Routed(Started(self.editor.engine.policy.no_route, self.revision, "unedited"), self.upstream.model)

    # -- places

    def enter(self, requests: int) -> None:
        """Take places for requests to the other server.

        Raises:
            QueueFullError: if so many are under way that these would have to wait.
        """
        if self.under_way + requests > self.settings.max_batch + self.settings.max_waiting:
            raise QueueFullError(f"{self.under_way} answers are under way: ask again later")
        self.under_way += requests

    # -- the other server

    def follow(self) -> None:
        """Follow the store and the other server's adapters; called in the thread of changes, every second."""
        super().follow()
        now = time.monotonic()
        if now - self._looked < LOOK and (self._adapters is None or self._tried == self.revision):
            return
        self._looked, self._tried = now, self.revision
        try:
            self.upstream.look()
            if self._adapters is not None and self._exported != self.revision:
                self._bring_adapters(self._adapters)
            self._told.clear()
        except Exception as error:  # whatever it is, the thread of changes must live
            self._tell(str(error))

    def missing(self) -> list[str]:
        """Return the ids of enabled edits whose adapters the other server does not list."""
        store = self.editor.store
        enabled = [stored for stored in store.edits() if stored.enabled]
        new = [stored for stored in enabled if stored.holder not in self._names]
        for stored, block in zip(new, blocks_of(store, new), strict=True):
            self._names[stored.holder] = adapter_name(block)
        return [stored.edit.id for stored in enabled if self._names[stored.holder] not in self.upstream.adapters]

    def _bring_adapters(self, folder: Path) -> None:
        """Write all adapters to a folder; let the other server load the new ones and forget those that are gone."""
        revision, store = self.revision, self.editor.store
        removed: Sequence[str] = ()
        if any(stored.enabled for stored in store.edits()):
            made = export_store(store, folder)
            removed = made.removed
            for name in dict.fromkeys(made.adapters.values()):
                if name not in self.upstream.adapters:
                    self._load(folder / name)
        for name in removed:
            if name in self.upstream.adapters:
                self.upstream.post("/v1/unload_lora_adapter", {"lora_name": name})
        self.upstream.look()
        self._exported = revision

    def _load(self, adapter: Path) -> None:
        body = {"lora_name": adapter.name, "lora_path": str(adapter)}
        response = self.upstream.post("/v1/load_lora_adapter", body)
        if response.status_code != 200:
            raise MeloEditError(
                f"the upstream server does not load {adapter.name} (status {response.status_code}): start it so that "
                "it loads adapters while it runs (vLLM: VLLM_ALLOW_RUNTIME_LORA_UPDATING=1)"
            )

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            logger.error("%s", line)

    def say_missing(self) -> str:
        """Return a line on edits whose adapters are not there; empty if all are."""
        ids = self.missing()
        if not ids:
            return ""
        return (
            f"{counted(len(ids), 'edit')} without an adapter upstream, whose questions are refused: {join_names(ids)}"
        )

    async def leave(self) -> None:
        """Close the connections to the other server."""
        await self.upstream.leave()
