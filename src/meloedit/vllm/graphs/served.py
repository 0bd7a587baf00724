"""GraphServed: what happens in a pass whose blocks are added by ops; ``eager.served`` does the like with hooks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..edits.passes import Pass, SlotStates, View, spell
from ..edits.requests import Prompt, Requests
from .shards import Answer, Crew
from .wide import WideBlocks

if TYPE_CHECKING:
    from ..edits.follower import Follower
    from ..edits.host import Host


class GraphServed:
    """The edited model in one rank.

    Args:
        view: the runner.
        wide: the tables of the ops.
        crew: the ranks.
        host: the model as the routing sees it.
        follower: has the edits that answer; ``None`` on all ranks but the first, which decides for them.
    """

    def __init__(self, view: View, wide: WideBlocks, crew: Crew, host: Host, follower: Follower | None) -> None:
        self._view, self._wide, self._crew, self._follower = view, wide, crew, follower
        self._states = SlotStates(view)
        self._states.reserve(host.key_size, wide.states.dtype, wide.states.device)
        self.requests = Requests(host.reader)
        self._answers: dict[str, Answer | None] = {}
        self._pass: Pass | None = None
        self._ran: Pass | None = None  # the pass whose logits come next
        self.seconds = 0.0
        self.passes = 0

    def begin(self) -> None:
        """Take a pass up that is about to run: the blocks of the answers that go on act from its first layer."""
        began = time.perf_counter()
        self._pass = self._ran = one = self._view.current()
        if one is None:
            return
        self.passes += 1
        self._seat(one)
        self._wide.write(one, self._wide.rows, self._wide.places)
        self.seconds += time.perf_counter() - began

    def decide(self, states: Tensor, rows: Tensor, places: Tensor) -> None:
        """Keep the key layer's states (T, d) of a pass, and decide the routes of the prompts that end in it."""
        one, self._pass = self._pass, None
        if one is None:
            return
        began = time.perf_counter()
        self._states.write(one, states[: one.tokens])
        if due := [place for place in one.completing() if one.names[place] not in self._answers]:
            answers = self._crew.share(len(due), self._decide(one, due), states.device)
            self._answers |= {one.names[place]: answer for place, answer in zip(due, answers, strict=True)}
            self._seat(one)
            self._wide.write(one, rows, places)
        self.seconds += time.perf_counter() - began

    def _decide(self, one: Pass, due: list[int]) -> list[Answer | None] | None:
        if self._follower is None:
            return None
        prompts = [
            Prompt(one.names[place], self._view.prompt(one.names[place]), self._states.read(one, place))
            for place in due
        ]
        with self._follower.lock:  # the edits that answer are not swapped meanwhile
            self.requests.decide(self._follower.live, prompts)
        return [self._answer(prompt.name) for prompt in prompts]

    def _answer(self, name: str) -> Answer | None:
        block = self.requests.blocks(name)
        if block is None:
            return None
        factors = {module: type(f)(*(each[0] for each in f)) for module, f in block.factors.items()}
        last, spelled = self.requests.spelled(name) or (0, ())
        return Answer(block.starts[0], block.answers[0], factors, last, tuple(spelled))

    def _seat(self, one: Pass) -> None:
        """Seat the blocks of a pass that have no seat: those just decided, and those of preempted requests."""
        for name in one.names:
            answer = self._answers.get(name)
            if answer is not None and name not in self._wide:
                self._wide.seat(name, answer, one.names)

    def spell(self, logits: Tensor) -> None:
        """Let tokens come that an answer, which a caller has begun, needs; ``logits`` (n, V) are written in place."""
        ran, self._ran = self._ran, None
        spell(logits, ran, self._spelled)

    def _spelled(self, name: str) -> tuple[int, tuple[int, ...]] | None:
        answer = self._answers.get(name)
        return None if answer is None else (answer.last, answer.spelled)

    def drop(self, names: set[str]) -> None:
        """Forget requests that have finished; a preempted one is not among them, and keeps its route."""
        self.requests.drop(names)
        self._wide.free(names)
        for name in names:
            self._answers.pop(name, None)

    def facts(self) -> dict[str, Any]:
        """Return what a client may want to know, as JSON has it."""
        own: dict[str, Any] = {"passes": self.passes, "seconds": self.seconds, "tables_bytes": self._wide.bytes}
        if self._follower is None:  # the first rank knows the rest
            return own
        own |= self._follower.facts()
        return own | {
            "requests": len(self._answers),
            "reasons": dict(self.requests.reasons),
            "states_bytes": self._states.bytes,
        }
