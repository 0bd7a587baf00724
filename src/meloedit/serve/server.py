"""The server process: an address, uvicorn, and connections that may not idle for ever."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import MeloEditError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .settings import ServeSettings

KEEP_ALIVE = 20
"""Seconds that a connection may be idle after an answer."""
GRACE = 10
"""Seconds that answers under way have when the server stops."""


def is_local(host: str) -> bool:
    """Return whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        MeloEditError: if it is taken, or is none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise MeloEditError(
            f"cannot listen at {host} port {port} ({why}): choose another with --host and --port"
        ) from None
    return listening


def _patient(settings: ServeSettings) -> type[H11Protocol]:
    """Return uvicorn's protocol with limits: connections at once, and seconds until a request's head has come."""

    class Patient(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                transport.abort()
                return
            self._waiting = self.loop.call_later(settings.body_timeout, self._give_up)

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None and self._waiting is not None:  # a head has come; uvicorn's keep-alive counts now
                self._waiting.cancel()
                self._waiting = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.abort()

    return Patient


def _raise_file_limit() -> None:
    """Let the process have as many connections as the system allows it; the default of 1,024 files is soon used up."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            logging.getLogger(__name__).info("the limit of open files stays at %s", soft)


def make_server(app: FastAPI, settings: ServeSettings) -> uvicorn.Server:
    """Return the server of an app; ``run`` it with a socket that ``bind`` returned."""
    config = uvicorn.Config(
        app,
        http=_patient(settings),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=32_768,
    )
    return uvicorn.Server(config)


def run(app: FastAPI, settings: ServeSettings, listening: socket.socket) -> None:
    """Serve until the process is told to stop."""
    _raise_file_limit()
    make_server(app, settings).run(sockets=[listening])
