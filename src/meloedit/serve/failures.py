"""Failures: every error as one line in the shape of OpenAI's API, with the right status, and never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ..errors import EditError, MeloEditError, RoutingError, StoreError, UnknownEditError
from ..text import plain, shorten
from .running.thread import QueueFullError

logger = logging.getLogger("meloedit.serve")

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""What OpenAI's API calls kinds of errors; 4xx otherwise ``invalid_request_error``, 5xx ``server_error``."""


class RefusedError(MeloEditError):
    """A request that is refused.

    Attributes:
        status: the status of the response.
        message: what was wrong and what to do.
        param: the field that it concerns.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})


class Json(JSONResponse):
    """JSON in ASCII: half of a surrogate pair, which a client may have sent, is spelled out."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": plain(shorten(message, 1000)), "type": kind, "param": param, "code": code}}


def refused(error: Exception, store: Path | None = None) -> RefusedError:
    """Return the refusal that an error of the library means.

    Args:
        error: the error.
        store: the path of the store; clients are told its name alone.
    """
    refusal = _refused(error)
    if store is not None:
        refusal.message = refusal.message.replace(str(store), store.name)
    return refusal


def _refused(error: Exception) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, QueueFullError):
        return RefusedError(429, str(error), code="queue_full", headers={"Retry-After": "2"})
    if isinstance(error, UnknownEditError):
        return RefusedError(404, str(error), code="edit_not_found")
    if isinstance(error, TimeoutError):
        return RefusedError(504, str(error), code="timeout")
    if isinstance(error, EditError | RoutingError):
        return RefusedError(400, str(error))
    if isinstance(error, StoreError):
        return RefusedError(409, str(error), code="store")
    if isinstance(error, MeloEditError):
        return RefusedError(400, str(error))
    return RefusedError(500, "the server made a mistake, which its log describes", code="internal")


def response(error: Exception, store: Path | None = None) -> JSONResponse:
    """Return the response to an error, see ``refused``."""
    refusal = refused(error, store)
    body = error_body(refusal.status, refusal.message, refusal.param, refusal.code)
    return Json(body, refusal.status, headers=refusal.headers)


def _invalid(error: RequestValidationError, content_type: str) -> RefusedError:
    """Return the refusal of a request that does not fit; of a body that may be two things, as what it looks like."""
    errors, body = error.errors(), error.body
    other = "EditBody" if isinstance(body, dict) and "edits" in body else "NewEdits"
    first = next((one for one in errors if other not in one["loc"]), errors[0])
    if first["type"] == "json_invalid":
        return RefusedError(400, f"the body is no JSON, from character {first['loc'][-1]} on", "body", "json_invalid")
    if first["loc"][0] == "body" and "json" not in content_type:
        return RefusedError(400, "send JSON, with the header Content-Type: application/json", "body", "content_type")
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "EditBody", "NewEdits")) or "body"
    return RefusedError(400, f"{where}: {first['msg']}", where, str(first["type"]))


def add_handlers(app: FastAPI, store: Path) -> None:
    """Let an app answer errors so; ``store`` is the path that clients are not told."""

    async def library(request: Request, error: Exception) -> JSONResponse:
        return response(error, store)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(_invalid(error, request.headers.get("content-type", "")))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
        return response(RefusedError(error.status_code, message, headers=error.headers))

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return response(error)

    app.add_exception_handler(MeloEditError, library)
    app.add_exception_handler(TimeoutError, library)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unknown)
