"""Answers: ``/v1/chat/completions`` and ``/v1/completions``, as OpenAI's clients expect them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from ...edit import check_asked
from ...types import Form, Prompt
from ..failures import Json, RefusedError
from ..running.choosing import Sampling
from ..running.making import Made, Making
from ..running.ticket import Started
from ..service import Service
from ..wire import answers as wire
from ..wire.shared import errors, prompt_of
from . import logprobs
from .common import ServiceOf
from .models import unedited
from .streams import Stream

if TYPE_CHECKING:
    from ...backbones.batch import Encoded

router = APIRouter(prefix="/v1", responses=errors(504))

T = TypeVar("T")

SSE: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post(
    "/chat/completions",
    response_model=wire.ChatAnswer,
    responses={200: {"content": SSE, "description": "The answer, whole or as a stream."}},
)
async def chat(request: Request, service: ServiceOf, body: wire.ChatRequest) -> Response:
    """Answer the last message of a chat."""
    body.check()
    if body.top_logprobs is not None and not body.logprobs:
        raise RefusedError(400, "top_logprobs needs logprobs", "top_logprobs")
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    likeliest = (body.top_logprobs or 0) if body.logprobs else None
    making = await _make(service, body, [prompt_of(body.messages)], "chat", limit, likeliest)
    identity = f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), body.model
    if body.stream:
        stream = Stream(service, making, identity, chat=True, usage=_usage_wanted(body))
        return await _streamed(request, service, stream)
    made = await _made_unless_gone(request, making.whole(), making)
    decode = service.editor.engine.backbone.decode
    choices = [
        wire.ChatChoice(
            index=i,
            message=wire.ChatMessage(content=one.text),
            logprobs=None if likeliest is None else logprobs.of_chat(one.chosen, decode),
            finish_reason=one.reason,
        )
        for i, one in enumerate(made)
    ]
    answer = wire.ChatAnswer(
        id=identity[0],
        created=identity[1],
        model=body.model,
        choices=choices,
        usage=_usage(making, made),
        melo=melo_fields(service, made[0].started),
    )
    return Json(answer.model_dump(exclude=_hidden(service)), headers=melo_headers(service, made[0].started))


@router.post(
    "/completions",
    response_model=wire.TextAnswer,
    responses={200: {"content": SSE, "description": "The answer, whole or as a stream."}},
)
async def complete(request: Request, service: ServiceOf, body: wire.CompletionRequest) -> Response:
    """Continue a text, or several."""
    body.check()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise RefusedError(400, "prompt is empty: give a text, or several", "prompt")
    making = await _make(service, body, prompts, "raw", body.max_tokens, body.logprobs)
    identity = f"cmpl-{secrets.token_hex(12)}", int(time.time()), body.model
    if body.stream:
        stream = Stream(service, making, identity, chat=False, usage=_usage_wanted(body))
        return await _streamed(request, service, stream)
    made = await _made_unless_gone(request, making.whole(), making)
    decode = service.editor.engine.backbone.decode
    choices = [
        wire.TextChoice(
            index=i,
            text=one.text,
            logprobs=None if body.logprobs is None else logprobs.of_text(one.chosen, decode),
            finish_reason=one.reason,
            melo=melo_fields(service, one.started),
        )
        for i, one in enumerate(made)
    ]
    answer = wire.TextAnswer(
        id=identity[0],
        created=identity[1],
        model=body.model,
        choices=choices,
        usage=_usage(making, made),
        melo=melo_fields(service, made[0].started),
    )
    hidden: Any = None if service.settings.show_edits else {"melo": True, "choices": {"__all__": {"melo"}}}
    headers = melo_headers(service, made[0].started) if len(prompts) == 1 else {}
    return Json(answer.model_dump(exclude=hidden), headers=headers)


async def _make(
    service: Service, body: wire.AnswerRequest, prompts: list[Any], form: Form, limit: int | None, likeliest: int | None
) -> Making:
    """Begin to answer ``n`` times to each prompt."""
    base, n = unedited(service, body.model), body.n or 1
    if n * len(prompts) > service.model.size:
        raise RefusedError(
            400, f"{n * len(prompts)} answers in one request, {service.model.size} are made: ask less", "n"
        )
    check_limit(service, limit)
    asked, samplings = [], []
    for prompt in prompts:
        checked, encoded = await read_prompt(service, prompt, form)
        most = most_tokens(service, encoded, limit)
        for i in range(n):
            asked.append((checked, encoded))
            seed = None if body.seed is None else body.seed + i
            samplings.append(Sampling(most, body.temperature or 0.0, body.top_p or 1.0, seed, body.stops, likeliest))
    return Making(service, asked, samplings, base)


def check_limit(service: Service, limit: int | None) -> None:
    """Refuse a request for more tokens than the server makes.

    Raises:
        RefusedError: naming the limit.
    """
    most = service.settings.max_tokens
    if limit is not None and limit > most:
        raise RefusedError(400, f"max_tokens is {limit}, this server makes at most {most}", "max_tokens")


async def read_prompt(service: Service, prompt: Any, form: Form) -> tuple[Prompt, Encoded]:
    """Return a prompt as it is asked, checked, and its tokens.

    Raises:
        RefusedError: if it has more tokens than the server takes.
        EditError: if it is none.
    """
    name = "messages" if form == "chat" else "prompt"
    checked = check_asked(prompt, name)
    encoded = await asyncio.to_thread(service.editor.engine.backbone.encode, checked, form)
    if len(encoded.ids) > service.settings.max_prompt:
        message = (
            f"the prompt has {len(encoded.ids)} tokens, this server takes {service.settings.max_prompt}: shorten it"
        )
        raise RefusedError(400, message, name, "context_length_exceeded")
    return checked, encoded


def most_tokens(service: Service, encoded: Encoded, limit: int | None) -> int:
    """Return how many tokens an answer may have."""
    longest, most = service.editor.engine.backbone.max_length, service.settings.max_tokens
    return min(most if limit is None else limit, most if longest is None else longest - len(encoded.ids))


async def _made_unless_gone(request: Request, wanted: Coroutine[Any, Any, T], making: Making) -> T:
    """Await what is wanted; if that fails or the client goes away, give the answers up: their places become free."""
    try:
        return await unless_gone(request, wanted)
    except BaseException:
        making.cancel()
        raise


async def unless_gone(request: Request, wanted: Coroutine[Any, Any, T]) -> T:
    """Await what is wanted, or give it up when the client goes away.

    Raises:
        RefusedError: if the client has gone.
    """
    work, left = asyncio.ensure_future(wanted), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise RefusedError(499, "the client went away")
        return work.result()
    finally:
        left.cancel()
        work.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _streamed(request: Request, service: Service, stream: Stream) -> Response:
    """Return a stream, once its first prompt was read: what goes wrong before is a plain error."""
    started = await _made_unless_gone(request, stream.begin(), stream.making)
    headers = melo_headers(service, started) | {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.lines(), media_type="text/event-stream", headers=headers)


def _usage_wanted(body: wire.AnswerRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _usage(making: Making, made: list[Made]) -> wire.Usage:
    prompts = {id(ticket.encoded): len(ticket.encoded.ids) for ticket in making.tickets}
    prompt, answer = sum(prompts.values()), sum(one.tokens for one in made)
    return wire.Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)


def _hidden(service: Service) -> Any:
    return None if service.settings.show_edits else {"melo"}


def melo_fields(service: Service, started: Started) -> wire.MeloFields | None:
    """Return how a prompt was routed; ``None`` where the operator hides it."""
    if not service.settings.show_edits:
        return None
    return wire.MeloFields(revision=started.revision, edit=started.route.edit, reason=started.reason)


def melo_headers(service: Service, started: Started) -> dict[str, str]:
    """Return the same as headers; an id is percent-encoded, as headers are ASCII."""
    if not service.settings.show_edits:
        return {}
    edit = started.route.edit
    named = {} if edit is None else {"X-Melo-Edit": quote(edit.encode("utf-8", "replace"), safe=" !#$&'()*+,/:;=?@[]~")}
    return {"X-Melo-Revision": str(started.revision)} | named
