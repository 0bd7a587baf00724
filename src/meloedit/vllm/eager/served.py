"""Served: the edited model in a worker. The hooks tell it of each pass; it decides routes and lets blocks act."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..edits.passes import Pass, SlotStates, View, spell
from ..edits.requests import Prompt, Requests
from .deltas import Deltas, Group

if TYPE_CHECKING:
    from ..edits.follower import Follower
    from ..edits.host import Host


class Served:
    """What happens in a pass.

    Args:
        view: the runner.
        host: the model as the routing sees it.
        follower: has the edits that answer.
    """

    def __init__(self, view: View, host: Host, follower: Follower) -> None:
        self._view, self._follower = view, follower
        self._states = SlotStates(view)
        self._states.reserve(host.key_size, host.bank.sites[0].dtype, host.key_device)
        self._deltas = Deltas(host.key_device)
        self.requests = Requests(host.reader)
        self._pass: Pass | None = None
        self._groups: list[Group] | None = None
        self._ran: Pass | None = None  # the pass whose logits come next
        self.seconds = 0.0
        self.passes = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take a pass up, for as long as the model runs: the edits that answer are not swapped meanwhile."""
        with self._follower.lock:
            self._pass, self._groups = self._view.current(), None
            self._ran, self.passes = self._pass, self.passes + (self._pass is not None)
            try:
                yield
            finally:
                self._pass = self._groups = None

    def read(self, states: Tensor) -> None:
        """Take the key layer's states (T, d) of a pass, and decide the routes of the prompts that end in it."""
        one = self._pass
        if one is None:
            return
        began = time.perf_counter()
        self._states.write(one, states[: one.tokens])
        due = [place for place in one.completing() if one.names[place] not in self.requests]
        if due:
            prompts = [
                Prompt(one.names[place], self._view.prompt(one.names[place]), self._states.read(one, place))
                for place in due
            ]
            self.requests.decide(self._follower.live, prompts)
        self.seconds += time.perf_counter() - began

    def add(self, name: str, x: Tensor, y: Tensor) -> None:
        """Add what the blocks of the pass add to a module's output, in place."""
        one = self._pass
        if one is None:
            return
        began = time.perf_counter()
        if self._groups is None:
            found = ((place, self.requests.blocks(own)) for place, own in enumerate(one.names))
            self._groups = self._deltas.of(one, [(place, block) for place, block in found if block is not None])
        for group in self._groups:
            group.add(name, x, y)
        self.seconds += time.perf_counter() - began

    def spell(self, logits: Tensor) -> None:
        """Let tokens come that an answer, which a caller has begun, needs; ``logits`` (n, V) are written in place."""
        ran, self._ran = self._ran, None
        spell(logits, ran, self.requests.spelled)

    def facts(self) -> dict[str, Any]:
        """Return what a client may want to know, as JSON has it."""
        return self._follower.facts() | {
            "requests": len(self.requests),
            "reasons": dict(self.requests.reasons),
            "passes": self.passes,
            "seconds": self.seconds,
            "states_bytes": self._states.bytes,
        }
