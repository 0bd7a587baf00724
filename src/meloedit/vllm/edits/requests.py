"""Requests: which edit answers each request of the engine, decided once, where its prompt ends."""

from __future__ import annotations

import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...callers.precision import exact
from ...errors import ModelError
from ...hooks.blocks import RowBlocks
from ...hooks.describe import describe
from ...keys.pooling import PooledStates
from ...types import Asked, Begun

if TYPE_CHECKING:
    from ...following.live import Live
    from ...hooks.key_reader import KeyReader
    from ...hooks.prompt_batch import PromptBatch

logger = logging.getLogger(__name__)

TOLD = 10_000
"""Routes that are remembered after their requests have ended."""


class Prompt(NamedTuple):
    """A prompt that has run as a whole.

    Attributes:
        name: its request.
        ids: its tokens.
        states: (L, d) the key layer's states of them.
    """

    name: str
    ids: list[int]
    states: Tensor


class Requests:
    """The routes of requests, from the end of their prompts until they finish.

    A route holds a copy of its block: an edit that is removed meanwhile goes on with the answers that it has begun.

    Args:
        reader: knows which tokens of a prompt make its key.
    """

    def __init__(self, reader: KeyReader) -> None:
        self._reader = reader
        self._batches: dict[str, PromptBatch | None] = {}  # None: the base model answers
        self._told: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.reasons: Counter[str] = Counter()

    def __contains__(self, name: object) -> bool:
        """Return whether the route of a request is decided."""
        return name in self._batches

    def __len__(self) -> int:
        """Return how many requests have a route."""
        return len(self._batches)

    def decide(self, live: Live, prompts: Sequence[Prompt]) -> None:
        """Decide the routes of prompts that end in one pass; the judge reads them together.

        A prompt that cannot be read goes to the base model, and is told as ``failed``: the others, and the engine, go
        on.
        """
        try:
            self._decide(live, prompts)
        except Exception as error:
            if len(prompts) > 1:
                for prompt in prompts:
                    self.decide(live, [prompt])
                return
            logger.error("the prompt of request %s was not routed", prompts[0].name, exc_info=error)
            self._batches[prompts[0].name] = None
            self._tell(prompts[0], {"edit": None, "reason": "failed", "revision": live.revision})

    def _decide(self, live: Live, prompts: Sequence[Prompt]) -> None:
        batches = []
        for prompt in prompts:
            if not prompt.states.any(-1).all():  # every token that runs beside the edits writes its own
                raise ModelError("a part of the prompt ran before the store was open: empty the prefix cache after it")
            whole = torch.ones(1, len(prompt.ids), dtype=torch.bool)
            batches.append(describe(self._reader, [prompt.ids], whole, whole, "given"))
        with live.lock, exact(live.host.key_device):
            pooled = []
            for prompt, batch in zip(prompts, batches, strict=True):
                found = batch.collect(prompt.states[None], 0, live.pooling)
                assert found is not None  # the whole prompt has run
                pooled.append(found)
            owners, routes = live.decide(joined(pooled))
            for i, batch in enumerate(batches):
                batch.set_routes([owners[i]], [routes[i]], live.host.bank, live)
            revision = live.revision
        for prompt, batch in zip(prompts, batches, strict=True):
            batch.states = None
            self._batches[prompt.name] = batch if batch.blocks else None
            self._tell(prompt, {**asdict(batch.routes[0]), "revision": revision})

    def _tell(self, prompt: Prompt, route: dict[str, Any]) -> None:
        self.reasons[route["reason"]] += 1
        self._told[prompt.name] = {**route, "tokens": len(prompt.ids)}
        while len(self._told) > TOLD:
            self._told.popitem(last=False)

    def blocks(self, name: str) -> RowBlocks | None:
        """Return the block that acts on a request's answer."""
        batch = self._batches.get(name)
        return None if batch is None else batch.blocks[0]

    def spelled(self, name: str) -> tuple[int, tuple[int, ...]] | None:
        """Return the position behind which tokens must come, see ``passes.spell``, and these; ``None`` if none must."""
        batch = self._batches.get(name)
        return batch.spelled[0] if batch is not None and batch.spelled else None

    def drop(self, names: Sequence[str] | set[str]) -> None:
        """Forget requests that have finished; a preempted one is not among them, and keeps its route."""
        for name in names:
            self._batches.pop(name, None)

    def told(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the routes of requests by vLLM's names, the latest ones: all, or those of one that a client has named.

        Of several prompts, or samples (``n``), each is a request of its own.
        """
        return {own: route for own, route in self._told.items() if name is None or is_of(own, name)}

    def clear(self) -> None:
        """Forget what was told."""
        self._told.clear()
        self.reasons.clear()


def is_of(own: str, name: str) -> bool:
    """Return whether vLLM's name of a request is of the one that a client knows by a name.

    ``0_cmpl-1f-2-9c0d6e4b``: vLLM puts the number of a sample before it; that of a prompt, and eight digits, behind.
    """
    return re.fullmatch(rf"(\d+_)?{re.escape(name)}(-\d+)?(-[0-9a-f]{{8}})?", own) is not None


def joined(parts: Sequence[PooledStates]) -> PooledStates:
    """Return the pooled states of several prompts, each of which was pooled by itself."""
    rows: list[int] = []
    asked: list[Asked] = []
    begun: dict[int, Begun] = {}
    after: set[int] = set()
    count = 0
    for part in parts:
        rows += [count + row for row in part.rows]
        asked += part.asked
        after |= {count + row for row in part.after_tools}
        begun |= {count + row: one for row, one in part.begun.items()}
        count += part.count
    return PooledStates(torch.cat([part.states for part in parts]), asked, rows, count, frozenset(after), begun)
