"""The map: edits and prompts in two dimensions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from .shared import Asked

Projection = Literal["pca", "umap"]
"""How a map is drawn."""


class MapRequest(BaseModel):
    """Prompts to place on the map."""

    prompts: list[Asked] = Field(min_length=1, max_length=256)
    form: Literal["chat", "raw"] | None = Field(None, description="How a text is asked; by default as a chat.")


class MapPlace(BaseModel):
    """A place on the map."""

    x: float
    y: float


class MapEdit(MapPlace):
    """An edit on the map."""

    id: str
    prompt: Any
    target: str
    enabled: bool
    radius: float | None = Field(
        description="How far its scope reaches from each of its wordings, about, in units of the map; null with UMAP."
    )
    wordings: list[MapPlace] = Field(description="Its other wordings, where they lie apart from its prompt.")


class MapPrompt(BaseModel):
    """A prompt on the map."""

    source: Literal["kept", "posted"]
    prompt: Any
    x: float | None = Field(description="null: it has no words, and so no place.")
    y: float | None
    edit: str | None = Field(description="The edit that answered a kept prompt, or would answer a posted one.")
    nearest: str | None
    reason: str
    score: float | None
    time: float | None = Field(description="When a kept prompt came last, in seconds since 1970.")
    times: int = Field(description="How often a kept prompt came, among the latest.")


class MapBody(BaseModel):
    """Edits and prompts in two dimensions.

    Two axes show only a share of the differences between prompts: what lies together here may be far apart.
    """

    edits: list[MapEdit]
    total: int = Field(description="How many edits are stored; of more than the limit, the map has a sample.")
    prompts: list[MapPrompt]
    kept: bool = Field(description="Whether the operator keeps prompts.")
    projection: Projection
    projections: list[Projection] = Field(description="What this server can draw by.")
    shares: tuple[float, float] | None = Field(
        description="The share of all differences that each axis shows; null with UMAP, whose axes mean nothing."
    )
    judged: bool = Field(
        description="Whether a scope is only where prompts are read and compared: then not all in it is answered."
    )
    revision: int
