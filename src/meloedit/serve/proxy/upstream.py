"""Upstream: the server that answers. It has the base model and the adapters, by name, behind OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from ...adapters.layout import PREFIX
from ...errors import MeloEditError
from ...text import plain, shorten
from ..failures import RefusedError

CONNECT = 5.0
"""Seconds until a connection must be there."""
MAX_ERROR = 100_000
"""Bytes of an error that are read."""
KEPT_HEADERS = ("retry-after", "x-request-id")
"""Headers of an error that are passed on."""


class Upstream:
    """A server of OpenAI's API that has adapters.

    Args:
        url: its address, with or without ``/v1``.
        model: what it calls the base model; ``None``: the first of its models that is no adapter.
        token: what it wants as ``Authorization: Bearer``; ``None``: nothing.
        timeout: the most seconds between two pieces of an answer.

    Attributes:
        adapters: the names of its adapters, as it listed them last.
        trouble: why it could not be asked last time; ``None`` if it could.

    Raises:
        MeloEditError: if the address is none.
    """

    def __init__(self, url: str, model: str | None = None, token: str | None = None, timeout: float = 120.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MeloEditError(f"{url!r} is no address of a server: give one as http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.adapters: frozenset[str] = frozenset()
        self.trouble: str | None = None
        self._model = model
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        limits = httpx.Timeout(timeout, connect=CONNECT)
        self._now = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(30.0, connect=CONNECT))
        self._answers = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=limits, limits=httpx.Limits(max_connections=None)
        )

    @property
    def model(self) -> str:
        """What it calls the base model."""
        if self._model is None:
            self.look()
        assert self._model is not None
        return self._model

    def look(self) -> None:
        """Ask which models it has.

        Raises:
            MeloEditError: if it is not there, or has no such list, or no base model.
        """
        try:
            response = self._now.get("/v1/models")
            if response.status_code != 200:
                raise MeloEditError(f"{self.url}/v1/models answers with status {response.status_code}{_why(response)}")
            models = [
                one for one in response.json()["data"] if isinstance(one, dict) and isinstance(one.get("id"), str)
            ]
        except httpx.HTTPError as error:
            raise self._note(self.absent(error)) from None
        except (ValueError, KeyError, TypeError):
            raise self._note(MeloEditError(f"{self.url}/v1/models is no list of models: is it OpenAI's API?")) from None
        except MeloEditError as error:
            raise self._note(error) from None
        bases = [one["id"] for one in models if not one.get("parent") and not one["id"].startswith(PREFIX)]
        if self._model is None:
            if not bases:
                raise self._note(MeloEditError(f"{self.url} lists no base model: name it with --upstream-model"))
            self._model = bases[0]
        self.adapters, self.trouble = frozenset(one["id"] for one in models) - {self._model}, None

    def _note(self, error: MeloEditError) -> MeloEditError:
        self.trouble = str(error)
        return error

    def absent(self, error: Exception) -> MeloEditError:
        """Return the error for a server that is not there."""
        return MeloEditError(f"the upstream server {self.url} cannot be reached ({plain(shorten(str(error), 200))})")

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Send something at once, outside of the event loop.

        Raises:
            MeloEditError: if the server is not there.
        """
        try:
            return self._now.post(path, json=dict(body))
        except httpx.HTTPError as error:
            raise self._note(self.absent(error)) from None

    async def open(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
        """Send a request for an answer, and return the response, whose body is still to be read.

        Raises:
            RefusedError: with 502, if the server is not there; with 504, if it takes too long.
        """
        content = json.dumps(body).encode()
        request = self._answers.build_request(
            "POST", path, content=content, headers={"Content-Type": "application/json", **headers}
        )
        try:
            return await self._answers.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self.failed(error) from None

    def failed(self, error: httpx.HTTPError) -> RefusedError:
        """Return the refusal of a request that the server did not answer."""
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return RefusedError(504, "the upstream server took longer than this server waits", code="timeout")
        return RefusedError(502, "the upstream server cannot be reached: ask again later", code="upstream")

    async def refusal(self, response: httpx.Response) -> RefusedError:
        """Return the error that the server answered with, in its own words."""
        content = b""
        try:
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > MAX_ERROR:
                    break
        except httpx.HTTPError as error:
            return self.failed(error)
        finally:
            await response.aclose()
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        facts = _facts(content)
        message = str(facts.get("message") or f"the upstream server refused with status {response.status_code}")
        param, code = (None if facts.get(name) is None else str(facts[name]) for name in ("param", "code"))
        return RefusedError(response.status_code, message, param, code, headers)

    async def leave(self) -> None:
        """Close the connections."""
        await self._answers.aclose()
        self._now.close()


def _facts(content: bytes) -> dict[str, Any]:
    """Return what an error says: in OpenAI's shape, in the older one of vLLM's, or in FastAPI's."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    return error if "message" in error else {"message": error.get("detail")}


def _why(response: httpx.Response) -> str:
    message = _facts(response.content).get("message")
    return f" ({plain(shorten(str(message), 200))})" if message else ""
