"""Guard: what stands before every endpoint: who asks, from where, and how much they may send and in what time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .failures import RefusedError, response
from .routes.common import CALLER, LOCAL
from .routes.console import is_page

if TYPE_CHECKING:
    from .service import Service
    from .tokens import Caller

OPEN = ("/health", "/ready", "/openapi.json")
"""What needs no token; the console, whose page asks for one, needs none either."""
ASKING = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics")
"""What a token of the role ``ask`` may do; the rest needs ``edit``."""


SHORTEST = 0.5
"""Seconds that a part of a body has in any case: it may be there while a busy process comes late to read it."""
DROPPED = 16
"""How many times the largest body is read and dropped behind a refusal."""


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        service: its limits and tokens.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, refusal, whole = 500, None, not _has_body(scope)

        async def counted(message: Message) -> None:
            nonlocal status
            if refusal is None:  # else the app answers to a body that it did not get: the refusal is sent instead
                status = message.get("status", status)
                await send(message)

        async def refuse(error: RefusedError) -> None:
            nonlocal status
            status = error.status
            if whole or error.status == 408:  # what is too slow is not waited for
                await response(error)(scope, receive, send)
            else:
                await self._dismiss(error, scope, receive, send)

        def keep(error: RefusedError, last: bool = False) -> None:
            nonlocal refusal, whole
            refusal, whole = error, whole or last

        try:
            scope[CALLER] = self._let_in(scope)
            await self._app(scope, self._limited(scope, receive, keep), counted)
            if refusal is not None:
                await refuse(refusal)
        except RefusedError as error:
            await refuse(error)
        finally:
            route = scope.get("route")
            self._service.metrics.requests.labels(getattr(route, "path", "other"), str(status)).inc()

    def _let_in(self, scope: Scope) -> Caller:
        """Return who asks.

        Raises:
            RefusedError: if they may not.
        """
        headers, settings = Headers(scope=scope), self._service.settings
        host = urlsplit(f"//{headers.get('host', '')}")
        if settings.hosts and host.hostname not in settings.hosts:
            # A page in a browser could reach a local server by a name of its own (DNS rebinding).
            raise RefusedError(421, f"this server does not answer to the name {host.hostname!r}: see --host-name")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host.netloc and origin not in settings.origins:
            raise RefusedError(403, "pages of other servers may not ask here: see --origin")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not len(self._service.tokens) or path in OPEN or (settings.console and is_page(path)):
            return LOCAL
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unknown("no token was given: send the header Authorization: Bearer TOKEN", "missing_api_key")
        caller = self._service.tokens.caller(token.strip())
        if caller is None:
            raise _unknown("this token is not known here", "invalid_api_key")
        if caller.role != "edit" and not any(path == one or path.startswith(one + "/") for one in ASKING):
            raise RefusedError(403, f"the token of {caller.name!r} may ask and not edit", code="role")
        return caller

    async def _dismiss(self, error: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request whose body still comes: answer, then read and drop the rest, and close the connection.

        A connection that closes over bytes that nobody read is reset, and the client may lose the answer.
        """
        error.headers["Connection"] = "close"

        async def kept_open(message: Message) -> None:
            last = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if last else message)

        await response(error)(scope, receive, kept_open)
        settings = self._service.settings
        if Headers(scope=scope).get("expect", "").lower() != "100-continue":  # else the client has sent nothing yet
            with suppress(TimeoutError):
                await asyncio.wait_for(_drop(receive, DROPPED * settings.max_body), settings.body_timeout)
        await send({"type": "http.response.body", "body": b""})

    def _limited(self, scope: Scope, receive: Receive, keep: Callable[..., None]) -> Receive:
        """Return ``receive`` with limits on the size of a body and on the time that it takes to come.

        Args:
            scope: the request.
            receive: gives its parts.
            keep: is given the refusal where a limit is passed, and whether the body has come whole; the app is told
                that the client went away.

        Raises:
            RefusedError: at once, if the body is announced as too large.
        """
        most = self._service.settings.max_body
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > most:
            raise _too_large(most)
        end = time.monotonic() + self._service.settings.body_timeout
        got, whole = 0, False

        async def limited() -> Message:
            nonlocal got, whole
            if whole:
                return await receive()  # waits until the client goes away
            try:
                message = await asyncio.wait_for(receive(), max(SHORTEST, end - time.monotonic()))
            except TimeoutError:
                keep(RefusedError(408, "the request took too long to come", headers={"Connection": "close"}))
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if got > most:
                    keep(_too_large(most), whole)
                    return {"type": "http.disconnect"}
            return message

        return limited


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _drop(receive: Receive, most: int) -> None:
    """Read a body to its end, but no more than so many bytes."""
    while most > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        most -= len(message.get("body", b""))


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"the request is larger than {most} bytes: split it")


def _unknown(message: str, code: str) -> RefusedError:
    return RefusedError(401, message, code=code, headers={"WWW-Authenticate": "Bearer"})
