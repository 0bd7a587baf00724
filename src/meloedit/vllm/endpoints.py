"""Endpoints: the edits over HTTP on vLLM's own server, loaded where ``VLLM_PLUGINS`` names ``meloedit``.

All paths lie under /v1, which vLLM's ``--api-key`` guards.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from ..editor import Editor
from ..errors import MeloEditError
from ..serve.failures import RefusedError, response
from ..serve.routes import edits, jobs, map, store
from ..serve.routes.common import SERVICE, ServiceOf
from ..serve.wire import edits as wire
from ..serve.wire.shared import prompt_of
from .edits.host import read_prompts
from .launch import EDITING
from .server.service import EngineService
from .server.store_editor import StoreEditor
from .start import checks

router = APIRouter(prefix="/v1")


class Told(BaseModel):
    """How requests were routed, by the names that vLLM gives them."""

    data: dict[str, dict[str, Any]]


class Facts(BaseModel):
    """What answers, and what the plugin did so far."""

    revision: int
    edits: int
    threshold: float | None
    least_score: float | None
    trouble: str | None
    requests: int
    reasons: dict[str, int]
    passes: int
    seconds: float
    states_bytes: int


def _engine(service: Any) -> EngineService:
    assert isinstance(service, EngineService)
    return service


@router.get("/melo")
async def facts(service: ServiceOf) -> Facts:
    """Say which revision answers, and what the plugin did so far."""
    return Facts(**await _engine(service).call("melo_facts"))


@router.get("/melo/routes/{request_id}")
async def told(service: ServiceOf, request_id: str) -> Told:
    """Say how a request was routed, by the id that its answer has; some thousand are remembered."""
    found = await _engine(service).call("melo_routes", request_id)
    if not found:
        raise RefusedError(404, f"no request {request_id!r} is remembered", "request_id", "request_not_found")
    return Told(data=found)


@router.post("/route")
async def route(service: ServiceOf, body: wire.RouteRequest) -> wire.RouteBody:
    """Say which edit a prompt would reach: the engine reads it, and answers with one token that nobody sees."""
    from vllm import SamplingParams

    engine, name = _engine(service), f"melo-{uuid4().hex}"
    ids = engine.prompts.encode(prompt_of(body.prompt), body.form or edits.form_of(service)).ids
    async for _ in engine.client.generate({"prompt_token_ids": ids}, SamplingParams(max_tokens=1, temperature=0), name):
        pass
    if not (found := await engine.call("melo_routes", name)):
        raise RefusedError(503, "the engine did not say how it routed the prompt: ask again", code="not_told")
    one = next(iter(found.values()))
    return wire.RouteBody(**{field: one[field] for field in _ROUTE}, evidence=None)


_ROUTE = ("edit", "reason", "nearest", "distance", "threshold", "score", "least_score", "user_turn_known", "revision")


def _without(topic: APIRouter, path: str) -> APIRouter:
    """Return a router without one of its paths: of two that are the same, vLLM takes the later, FastAPI the earlier."""
    kept = APIRouter()
    kept.routes[:] = [one for one in topic.routes if getattr(one, "path", None) != path]
    return kept


class Endpoints:
    """The endpoint plugin of vLLM."""

    name = "meloedit"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes. Jobs come before edits, whose ids are paths."""
        for topic in (router, jobs.router, store.router, map.router, _without(edits.router, "/v1/route")):
            app.include_router(topic)

        async def refused(request: Any, error: Exception) -> Any:
            return response(error)

        app.add_exception_handler(MeloEditError, refused)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Let the worker open the store; vLLM does not start if it cannot."""
        config = engine_client.vllm_config
        extra = dict(config.additional_config or {})
        if "meloedit" not in str(config.parallel_config.worker_extension_cls):
            raise MeloEditError(f"the plugin's worker is not there: add --worker-extension-cls {checks.WORKER}")
        (opened, *_) = await engine_client.collective_rpc("melo_start")
        service = EngineService(engine_client, asyncio.get_running_loop(), opened)
        path, service.prompts = extra[checks.STORE], read_prompts(config.model_config)
        if extra.get(EDITING):
            editor: Any = await asyncio.to_thread(Editor.from_pretrained, path, config.model_config.model)
        else:
            editor = StoreEditor(path, service.prompts.tokenizer, lambda: service.facts)
        service.take(editor)
        service.start()
        setattr(state, SERVICE, service)
