"""Making: the answers of one request, from the threads' events to what the endpoint awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .choosing import Chosen, Sampling
from .ticket import Done, Event, Failed, FinishReason, Piece, Started, Ticket

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...types import Prompt
    from ..service import Service


class Made(NamedTuple):
    """One whole answer."""

    text: str
    chosen: list[Chosen]
    reason: FinishReason
    tokens: int
    started: Started


class Making:
    """The answers of one request.

    Args:
        service: what is served.
        prompts: what is asked, with its tokens; a prompt that is answered twice is there twice.
        samplings: how each is answered.
        unedited: whether the base model answers.

    Raises:
        QueueFullError: if too many answers wait.
    """

    def __init__(
        self,
        service: Service,
        prompts: Sequence[tuple[Prompt, Encoded]],
        samplings: Sequence[Sampling],
        unedited: bool,
    ) -> None:
        self._service = service
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._began = time.monotonic()
        deadline = self._began + service.settings.timeout
        self._first = True
        self._open = len(prompts)

        def tell(number: int, event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

        self.tickets = [
            Ticket(prompt, encoded, sampling, lambda event, i=i: tell(i, event), unedited, deadline)  # type: ignore[misc]
            for i, ((prompt, encoded), sampling) in enumerate(zip(prompts, samplings, strict=True))
        ]
        service.model.submit(self.tickets)

    def cancel(self) -> None:
        """Nobody waits for these answers any longer; their places become free."""
        for ticket in self.tickets:
            ticket.cancelled = True

    async def events(self) -> AsyncIterator[tuple[int, Started | Piece | Done]]:
        """Yield the number of an answer and what is told about it, until all are whole.

        Raises:
            Exception: what kept an answer from being made.
        """
        metrics, statistics = self._service.metrics, self._service.statistics
        try:
            while self._open:
                number, event = await self._events.get()
                if isinstance(event, Failed):
                    raise event.error
                ticket = self.tickets[number]
                if isinstance(event, Started) and not ticket.unedited:
                    statistics.note(ticket.prompt, event.route)
                    metrics.routes.labels(event.route.reason).inc()
                if isinstance(event, Piece) and self._first:
                    self._first = False
                    metrics.first.observe(time.monotonic() - self._began)
                if isinstance(event, Done):
                    self._open -= 1
                    metrics.tokens.labels("answer").inc(event.tokens)
                    metrics.tokens.labels("prompt").inc(len(ticket.encoded.ids))
                    metrics.answers.observe(time.monotonic() - self._began)
                yield number, event
        finally:
            self.cancel()

    async def whole(self) -> list[Made]:
        """Wait for all answers."""
        texts = [""] * len(self.tickets)
        chosen: list[list[Chosen]] = [[] for _ in self.tickets]
        started: dict[int, Started] = {}
        done: dict[int, Done] = {}
        async for number, event in self.events():
            if isinstance(event, Started):
                started[number] = event
            elif isinstance(event, Piece):
                texts[number] += event.text
                chosen[number].append(event.chosen)
            else:
                texts[number] += event.rest
                done[number] = event
        return [Made(texts[i], chosen[i], done[i].reason, done[i].tokens, started[i]) for i in range(len(self.tickets))]
