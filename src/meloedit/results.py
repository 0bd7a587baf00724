"""What calls return: routes, answers, reports, checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from .types import Form, Prompt

Boundary = Literal["given", "labels", "template", "assumed"]
"""How the end of a prompt was known: stated, by labels, by the chat template, or taken to be the last token."""

Reason = Literal["fired", "outside scope", "quiet", "no edits", "no prompt"]
"""Why an edit answers a prompt, or none does."""


@dataclass(frozen=True)
class Route:
    """What the index decided for one prompt.

    Attributes:
        edit: id of the edit that fires; ``None`` for the base model.
        distance: distance |u - v| of the prompt's key to the nearest edit's; ``None`` without edits or prompt.
        threshold: the distance below which an edit is in scope.
        nearest: id of the nearest edit, whether it fires or not.
        reason: why it fires or does not.
        boundary: how the end of the prompt was known.
        user_turn_known: whether the key was pooled over the user's own words; else over the whole prompt.
    """

    edit: str | None
    distance: float | None
    threshold: float
    nearest: str | None
    reason: Reason
    boundary: Boundary = "given"
    user_turn_known: bool = True


class Neighbours(NamedTuple):
    """The edits around an edit.

    Attributes:
        nearest: id of the nearest other edit; ``None`` if there is none.
        distance: the distance to it; ``None`` likewise.
        overlaps: ids of edits whose scopes overlap this one's: the nearest key decides between them.
    """

    nearest: str | None
    distance: float | None
    overlaps: list[str]


@dataclass(frozen=True)
class Answer:
    """An answer: its text, how its prompt was routed, and how many tokens were generated (the end token aside)."""

    prompt: Prompt
    text: str
    route: Route
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Broken:
    """A wording in which an edit no longer holds, with the answer it got and how that was routed."""

    id: str
    prompt: Prompt
    target: str
    answer: str
    route: Route
    form: Form


@dataclass(frozen=True)
class Check:
    """What ``check`` found.

    Attributes:
        checked: number of edits asked.
        broken: wordings that no longer give their target.
        overlaps: pairs of ids one of whose keys lies in the other's scope.
        problems: damage found in the store's file.
    """

    checked: int
    broken: list[Broken] = field(default_factory=list)
    overlaps: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class EditReport:
    """What became of one edit.

    Attributes:
        id: the edit's id.
        status: ``stored``; ``skipped`` (stored already); ``failed`` (does not hold, not stored).
        holds: whether greedy decoding with the stored block gives the target and stops, in every wording and form.
        steps: optimiser steps taken.
        rank: rank of the block.
        loss: mean cross-entropy of the target, nats per token.
        seconds: its share of the training time.
        nearest: id of the nearest other edit, and ``nearest_distance`` to it.
        overlaps: ids of edits whose scopes overlap this one's: the nearest key decides between them.
        replaced: ids of edits that it replaced.
        reason: why it failed, or that it is disabled.
    """

    id: str
    status: Literal["stored", "skipped", "failed"]
    holds: bool
    steps: int = 0
    rank: int = 0
    loss: float | None = None
    seconds: float = 0.0
    nearest: str | None = None
    nearest_distance: float | None = None
    overlaps: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)
