"""What several bodies share: errors, and messages of a chat."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ErrorFacts(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorFacts


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1, max_length=64)
    content: str | list[Any] | None = None


Asked = str | list[Message]
"""A prompt: a text, or the messages of a chat."""


def prompt_of(asked: Asked) -> Any:
    """Return a prompt as the library takes it; it is checked there."""
    if isinstance(asked, str):
        return asked
    return [message.model_dump(exclude_unset=True) for message in asked]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the errors of an endpoint; some may come anywhere."""
    always = (400, 401, 403, 404, 408, 409, 413, 415, 421, 429, 500, 503)
    return {status: {"model": ErrorBody} for status in (*always, *statuses)}
