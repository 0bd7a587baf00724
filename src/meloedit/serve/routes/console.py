"""The console: the page that ``meloedit serve`` shows at ``/``, and its files. Its source is in ``console/``."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
"""Types of the files by the ends of their names; others are not given out."""
HEADERS = {
    "Cache-Control": "no-cache",  # the browser asks whether its copy is the one of this version
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Scripts, styles and pictures come from this server alone, none stands in the page, and no page may frame it."""


def is_page(path: str) -> bool:
    """Return whether a path is the console's: its page or one of its files, which need no token."""
    return path in ("", "/") or path.startswith("/console/")


@router.get("/")
def page(request: Request) -> Response:
    """Show the console."""
    return _file(request, "index.html")


@router.get("/console/{name}")
def file(request: Request, name: str) -> Response:
    """Give one of its files."""
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    kind = KINDS.get(name.rpartition(".")[2])
    found = files("meloedit.serve") / "console" / name
    if kind is None or "/" in name or "\\" in name or not found.is_file():
        raise HTTPException(404)
    content = found.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = HEADERS | {"ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
