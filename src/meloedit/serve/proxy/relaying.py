"""Relay: the other server's answer on its way back. The model gets its public name, and the route is told."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ..failures import RefusedError, error_body
from ..routes.answers import melo_fields
from ..running.ticket import Started
from ..service import Service

logger = logging.getLogger("meloedit.serve")

MAX_EVENT = 16_000_000
"""Bytes of one event of a stream, at most."""


@dataclass(frozen=True)
class Part:
    """A request to the other server: prompts that one model of its answers.

    Attributes:
        model: that model.
        prompts: the numbers of the prompts in the client's request.
        started: how each of them was routed.
        body: the body that is sent.
    """

    model: str
    prompts: tuple[int, ...]
    started: tuple[Started, ...]
    body: dict[str, Any]


class Relay:
    """Brings the answers of one request back.

    Args:
        service: what is served.
        parts: the requests that were sent.
        model: what the client calls the model.
        chat: whether it is a chat.
        n: answers per prompt.
    """

    def __init__(self, service: Service, parts: Sequence[Part], model: str, chat: bool, n: int) -> None:
        self._service, self._parts, self._model, self._chat, self._n = service, parts, model, chat, n
        self._id: str | None = None
        self._usage: dict[str, int] = {}
        self._seen: set[int] = set()

    async def whole(self, responses: Sequence[httpx.Response]) -> dict[str, Any]:
        """Return the body of an answer that is no stream.

        Raises:
            RefusedError: with 502, if the other server's answer is none.
        """
        merged: dict[str, Any] = {}
        choices: list[dict[str, Any]] = []
        for part, response in zip(self._parts, responses, strict=True):
            try:
                answer = json.loads(await response.aread())
                found = [self._renumbered(part, choice) for choice in answer["choices"]]
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                raise RefusedError(
                    502, "the upstream server's answer is none of OpenAI's API", code="upstream"
                ) from None
            merged = merged or answer
            choices += found
            self._add(answer.get("usage"))
        merged |= {"model": self._model, "choices": sorted(choices, key=lambda choice: choice["index"])}
        if len(self._parts) > 1 and self._usage:
            merged["usage"] = self._usage
        merged.pop("melo", None)
        if self._service.settings.show_edits:
            merged["melo"] = self._fields(self._parts[0].started[0])
        return merged

    def _renumbered(self, part: Part, choice: dict[str, Any], whole: bool = True) -> dict[str, Any]:
        """Return a choice with its number among the client's, and how its prompt was routed."""
        place, turn = divmod(int(choice["index"]), self._n)
        choice = {**choice, "index": part.prompts[place] * self._n + turn}
        choice.pop("melo", None)
        if whole and not self._chat and self._service.settings.show_edits:
            choice["melo"] = self._fields(part.started[place])
        return choice

    def _fields(self, started: Started) -> dict[str, Any] | None:
        fields = melo_fields(self._service, started)
        return None if fields is None else fields.model_dump()

    def _add(self, usage: Any) -> None:
        if isinstance(usage, dict):
            for name, value in usage.items():
                if isinstance(value, int):
                    self._usage[name] = self._usage.get(name, 0) + value

    # -- streams

    async def lines(self, responses: Sequence[httpx.Response]) -> AsyncIterator[str]:
        """Yield the events of a stream; an error in the middle is one of them, and the last one."""
        last: dict[str, Any] | None = None  # the event that tells how many tokens there were
        try:
            for part, response in zip(self._parts, responses, strict=True):
                async for data in events(response):
                    chunk = _read(data)
                    if chunk is None:  # the end, or nothing that this proxy knows
                        continue
                    if "error" in chunk:
                        yield _event(chunk)
                        return
                    if not chunk.get("choices") and chunk.get("usage"):
                        self._add(chunk["usage"])
                        last = chunk
                        continue
                    yield _event(self._named(self._told(part, chunk)))
            if last is not None:
                yield _event(self._named(last | ({"usage": self._usage} if len(self._parts) > 1 else {})))
            yield "data: [DONE]\n\n"
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            logger.error("a stream of the upstream server broke off (%s)", error or type(error).__name__)
            yield _event(error_body(502, "the upstream server broke the answer off", code="upstream"))

    def _told(self, part: Part, chunk: dict[str, Any]) -> dict[str, Any]:
        """Return a chunk with the client's numbers of its choices; the first one of each prompt tells its route."""
        choices = [self._renumbered(part, choice, whole=False) for choice in chunk.get("choices", ())]
        told = {**chunk, "choices": choices}
        told.pop("melo", None)
        for choice in choices:
            if choice["index"] not in self._seen:
                self._seen.add(choice["index"])
                if self._service.settings.show_edits:
                    place = part.prompts.index(choice["index"] // self._n)
                    told["melo"] = self._fields(part.started[place])
        return told

    def _named(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Return a chunk under the client's name of the model; all chunks of an answer have one id."""
        self._id = self._id or chunk.get("id")
        return {**chunk, "id": self._id, "model": self._model}


async def events(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the data of each server-sent event of a response.

    Raises:
        ValueError: if one is too long.
    """
    data: list[str] = []
    size = 0
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
            size += len(line)
            if size > MAX_EVENT:
                raise ValueError("an event is too long")
        elif not line and data:
            yield "\n".join(data)
            data, size = [], 0
    if data:
        yield "\n".join(data)


def _read(data: str) -> dict[str, Any] | None:
    if data.strip() == "[DONE]":
        return None
    chunk = json.loads(data)
    return chunk if isinstance(chunk, dict) else None


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
