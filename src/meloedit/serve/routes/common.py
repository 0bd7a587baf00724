"""What endpoints share: the service behind a request, who asks, which revision they expect."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Header, Request

from ..failures import RefusedError
from ..service import Service
from ..tokens import Caller

SERVICE = "meloedit_service"
"""The attribute of an app's state that has the service."""
CALLER = "meloedit.caller"
"""The key of a request's scope that says who asks."""
LOCAL = Caller("local", "edit")
"""Who asks where no tokens are."""


def service_of(request: Request) -> Service:
    """Return the service behind a request."""
    return cast(Service, getattr(request.app.state, SERVICE))


def caller_of(request: Request) -> Caller:
    """Return who asks."""
    return cast(Caller, request.scope.get(CALLER, LOCAL))


def expected_revision(
    if_match: Annotated[str | None, Header(description="The revision at which the store must be.")] = None,
) -> int | None:
    """Return the revision that a change is meant for; ``None``: any.

    Raises:
        RefusedError: if the header is no revision.
    """
    text = (if_match or "*").strip()
    if text == "*":
        return None
    number = text.removeprefix("W/").strip('"')
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise RefusedError(400, "If-Match is a revision, as ETag gives it", "If-Match")
    return int(number)


ServiceOf = Annotated[Service, Depends(service_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
Expected = Annotated[int | None, Depends(expected_revision)]
