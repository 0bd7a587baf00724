"""Stream: answers as server-sent events, a piece of text at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from ..failures import error_body, refused
from ..running.making import Making
from ..running.ticket import Done, Piece, Started
from ..service import Service
from . import logprobs

logger = logging.getLogger("meloedit.serve")


class Stream:
    """The answers of one request as they are made.

    Args:
        service: what is served.
        making: the answers.
        identity: id, time and model of the chunks.
        chat: whether the chunks are those of a chat.
        usage: whether the last chunk says how many tokens there were.
    """

    def __init__(
        self, service: Service, making: Making, identity: tuple[str, int, str], chat: bool, usage: bool
    ) -> None:
        self._service, self.making, self._chat, self._with_usage = service, making, chat, usage
        self._events = making.events()
        self._id, self._created, self._model = identity
        self._first: tuple[int, Started] | None = None
        self._tokens = 0

    async def begin(self) -> Started:
        """Wait until the first prompt was read, and return how it was routed.

        Raises:
            Exception: what kept it from being answered.
        """
        number, event = await anext(self._events)
        assert isinstance(event, Started)
        self._first = number, event
        return event

    async def lines(self) -> AsyncIterator[str]:
        """Yield the events; an error in the middle is one of them, and the last one."""
        assert self._first is not None
        try:
            for line in self._lines(*self._first):
                yield line
            async for number, event in self._events:
                for line in self._lines(number, event):
                    yield line
            if self._with_usage:
                yield _event(self._chunk([]) | {"usage": self._usage()})
            yield "data: [DONE]\n\n"
        except Exception as error:
            refusal = refused(error, self._service.editor.store.path)
            if refusal.status >= 500 and not isinstance(error, TimeoutError):
                logger.error("a stream broke off", exc_info=error)
            yield _event(error_body(refusal.status, refusal.message, refusal.param, refusal.code))
        finally:
            self.making.cancel()
            await self._events.aclose()  # type: ignore[attr-defined]

    def _lines(self, number: int, event: Started | Piece | Done) -> list[str]:
        if isinstance(event, Started):
            fields = self._melo(event)
            delta = {"role": "assistant", "content": ""} if self._chat else {"text": ""}
            return [_event(self._chunk([self._choice(number, delta)]) | fields)]
        if isinstance(event, Piece):
            scores = self._logprobs(number, event)
            return [self._text(number, event.text, scores)] if event.text or scores else []
        self._tokens += event.tokens
        rest = [self._text(number, event.rest, None)] if event.rest else []
        last = self._choice(number, {} if self._chat else {"text": ""}, event.reason)
        return [*rest, _event(self._chunk([last]))]

    def _text(self, number: int, text: str, scores: dict[str, Any] | None) -> str:
        delta = {"content": text} if self._chat else {"text": text}
        return _event(self._chunk([self._choice(number, delta, scores=scores)]))

    def _logprobs(self, number: int, event: Piece) -> dict[str, Any] | None:
        if self.making.tickets[number].sampling.logprobs is None:
            return None
        shape = logprobs.of_chat if self._chat else logprobs.of_text
        return shape([event.chosen], self._service.editor.engine.backbone.decode)

    def _choice(
        self, number: int, delta: dict[str, Any], reason: str | None = None, scores: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        shown = {"delta": delta} if self._chat else delta
        return {"index": number, **shown, "logprobs": scores, "finish_reason": reason}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        chunk = {"id": self._id, "object": kind, "created": self._created, "model": self._model, "choices": choices}
        return chunk | ({"usage": None} if self._with_usage else {})

    def _usage(self) -> dict[str, int]:
        prompts = {id(ticket.encoded): len(ticket.encoded.ids) for ticket in self.making.tickets}
        prompt = sum(prompts.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
        }

    def _melo(self, started: Started) -> dict[str, Any]:
        if not self._service.settings.show_edits:
            return {}
        return {"melo": {"revision": started.revision, "edit": started.route.edit, "reason": started.reason}}


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, allow_nan=False)}\n\n"
