"""Answers: ``/v1/chat/completions`` and ``/v1/completions``, routed here and made by the other server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, cast

import httpx
from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from ...messages import begun
from ...types import Form
from ..failures import Json, RefusedError
from ..routes.answers import SSE, check_limit, melo_headers, most_tokens, read_prompt, unless_gone
from ..routes.common import ServiceOf
from ..routes.models import unedited
from ..wire import answers as wire
from ..wire.shared import errors, prompt_of
from .relaying import Part, Relay
from .service import ProxyService, Routed

router = APIRouter(prefix="/v1", responses=errors(502, 504))

OTHER_PROMPTS = ("chat_template", "chat_template_kwargs", "documents", "prompt_embeds", "prompt_token_ids")
"""Fields with which the other server would read another prompt than the one that is routed."""


@router.post(
    "/chat/completions",
    response_model=wire.ChatAnswer,
    responses={200: {"content": SSE, "description": "The answer, whole or as a stream."}},
)
async def chat(request: Request, service: ServiceOf, body: wire.ChatRequest) -> Response:
    """Answer the last message of a chat."""
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return await _answer(request, cast(ProxyService, service), body, [prompt_of(body.messages)], "chat", limit)


@router.post(
    "/completions",
    response_model=wire.TextAnswer,
    responses={200: {"content": SSE, "description": "The answer, whole or as a stream."}},
)
async def complete(request: Request, service: ServiceOf, body: wire.CompletionRequest) -> Response:
    """Continue a text, or several; texts of different edits become several requests."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise RefusedError(400, "prompt is empty: give a text, or several", "prompt")
    return await _answer(request, cast(ProxyService, service), body, prompts, "raw", body.max_tokens)


async def _answer(
    request: Request,
    service: ProxyService,
    body: wire.AnswerRequest,
    prompts: Sequence[Any],
    form: Form,
    limit: int | None,
) -> Response:
    base = unedited(service, body.model)
    check_limit(service, limit)
    sent: dict[str, Any] = await request.json()
    if other := [name for name in OTHER_PROMPTS if sent.get(name)]:
        raise RefusedError(400, f"{other[0]} would change the prompt after it is routed: leave it out", other[0])
    read = [await read_prompt(service, prompt, form) for prompt in prompts]
    if any(isinstance(checked, list) and begun(checked) for checked, _ in read):
        raise RefusedError(
            400, "an answer that is begun is not gone on with here: end with the user's turn", "messages"
        )
    if base:
        routed = [service.base()] * len(read)
    else:
        routed = await asyncio.gather(*(service.route(encoded) for _, encoded in read))
        for (checked, _), one in zip(read, routed, strict=True):
            service.statistics.note(checked, one.started.route)
            service.metrics.routes.labels(one.started.route.reason).inc()
    defaults: dict[str, Any] = {"temperature": 0.0} if body.temperature is None else {}
    if limit is None:
        defaults["max_tokens"] = min(most_tokens(service, encoded, None) for _, encoded in read)
    parts = _parts(sent | defaults, routed)
    relay = Relay(service, parts, body.model, form == "chat", body.n or 1)
    headers = melo_headers(service, routed[0].started) if len(routed) == 1 else {}
    return await _sent(request, service, parts, relay, bool(body.stream), headers)


def _parts(sent: dict[str, Any], routed: Sequence[Routed]) -> list[Part]:
    """Return a request for each model: that of the client, with the prompts that this model answers."""
    by_model: dict[str, list[int]] = {}
    for number, one in enumerate(routed):
        by_model.setdefault(one.model, []).append(number)
    parts = []
    for model, numbers in by_model.items():
        body = sent | {"model": model}
        if len(by_model) > 1:
            body["prompt"] = [sent["prompt"][number] for number in numbers]
        parts.append(Part(model, tuple(numbers), tuple(routed[number].started for number in numbers), body))
    return parts


async def _sent(
    request: Request,
    service: ProxyService,
    parts: Sequence[Part],
    relay: Relay,
    stream: bool,
    headers: dict[str, str],
) -> Response:
    """Send the requests, and return the response; what goes wrong before the first word is a plain error."""
    service.enter(len(parts))
    began, responses, open_ended = time.monotonic(), list[httpx.Response](), False

    async def leave() -> None:
        nonlocal parts
        service.under_way -= len(parts)
        parts = ()
        for response in responses:
            with suppress(httpx.HTTPError):
                await response.aclose()

    async def lines() -> AsyncIterator[str]:
        try:
            async for line in relay.lines(responses):
                yield line
        finally:
            await leave()

    try:
        await unless_gone(request, _open(request, service, parts, responses))
        service.metrics.first.observe(time.monotonic() - began)
        if stream:
            open_ended = True
            headers = headers | {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(lines(), 200, headers, "text/event-stream", BackgroundTask(leave))
        answer = await unless_gone(request, relay.whole(responses))
        service.metrics.answers.observe(time.monotonic() - began)
        return Json(answer, headers=headers)
    except httpx.HTTPError as error:
        raise service.upstream.failed(error) from None
    finally:
        if not open_ended:
            await leave()


async def _open(
    request: Request, service: ProxyService, parts: Sequence[Part], responses: list[httpx.Response]
) -> None:
    """Send the requests and wait for the heads of the responses.

    Raises:
        RefusedError: in the other server's words, if it refuses one.
    """
    path = request.url.path[request.url.path.index("/v1/") :]
    own = {} if len(service.tokens) else {n: request.headers[n] for n in ("authorization",) if n in request.headers}

    async def open_one(part: Part) -> httpx.Response:
        response = await service.upstream.open(path, part.body, own)
        responses.append(response)
        return response

    opened = await asyncio.gather(*map(open_one, parts), return_exceptions=True)
    responses[:] = [one for one in opened if isinstance(one, httpx.Response)]  # in the order of the parts
    for part, one in zip(parts, opened, strict=True):
        if isinstance(one, BaseException):
            raise one
        if one.status_code >= 400:
            refusal = await service.upstream.refusal(one)
            if one.status_code == 404 and part.model != service.upstream.model:
                raise RefusedError(503, _no_adapter(part), code="adapter_missing", headers={"Retry-After": "5"})
            raise refusal


def _no_adapter(part: Part) -> str:
    edit = part.started[0].route.edit
    return (
        f"edit {edit!r} answers this, and the upstream server has no adapter {part.model}: export it, and load it there"
    )
