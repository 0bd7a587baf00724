"""The ASGI app: the endpoints over one service, to run by itself or to mount in another app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from .. import __version__
from .failures import Json, add_handlers
from .guard import Guard
from .routes import answers, console, edits, health, jobs, map, models, store
from .routes.common import SERVICE
from .service import Service
from .settings import ServeSettings
from .tokens import Tokens

if TYPE_CHECKING:
    from ..editor import Editor


def make_app(editor: Editor, settings: ServeSettings | None = None, tokens: Tokens | None = None) -> FastAPI:
    """Return the ASGI app that serves an editor; see ``meloedit.serve.app``."""
    return app_of(Service(editor, settings or ServeSettings(), tokens or Tokens()), answers.router)


def app_of(service: Service, answering: APIRouter) -> FastAPI:
    """Return the ASGI app of a service; ``answering`` has the endpoints that answer prompts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.leave()
            service.stop()

    made = FastAPI(
        title="meloedit",
        version=__version__,
        description="The edited model as OpenAI's API has it, and its edits.",
        lifespan=lifespan,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        default_response_class=Json,
    )
    setattr(made.state, SERVICE, service)
    # Jobs come before edits, whose ids are paths: an edit called "jobs" is found by the list.
    for router in (health.router, models.router, answering, jobs.router, store.router, map.router, edits.router):
        made.include_router(router)
    if service.settings.console:
        made.include_router(console.router)
    add_handlers(made, service.editor.store.path)
    made.openapi = lambda: _schema(made)  # type: ignore[method-assign]
    made.add_middleware(Guard, service=service)
    if service.settings.origins:  # outside of the guard: a browser first asks without a token whether it may
        made.add_middleware(CORSMiddleware, allow_origins=list(service.settings.origins), **_CORS)
    return made


_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "PATCH", "DELETE"],
    "allow_headers": ["authorization", "content-type", "if-match", "idempotency-key"],
    "expose_headers": ["etag", "location", "x-melo-edit", "x-melo-revision"],
}


def _schema(made: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI schema; a body that does not fit is a 400 here, and not FastAPI's 422."""
    if made.openapi_schema is None:
        schema = get_openapi(title=made.title, version=made.version, description=made.description, routes=made.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                responses = operation["responses"]
                if "HTTPValidationError" in str(responses.get("422")):
                    del responses["422"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{}, {"token": []}]
        made.openapi_schema = schema
    return made.openapi_schema
