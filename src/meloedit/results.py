"""What the editor's calls return: answers and their routes, reports of edits, checks of a store."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from .text import plain, shorten
from .types import Form, Prompt

Boundary = Literal["given", "labels", "template", "assumed"]
"""How the end of a prompt was known: given by the caller, by labels, by the chat template, or assumed to be the last
token."""

Reason = Literal[
    "fired",
    "outside scope",
    "judged other",
    "quiet",
    "no edits",
    "no prompt",
    "tool result",
    "tool call",
    "answer given",
]
"""Why an edit answers a prompt, or why none does."""


@dataclass(frozen=True)
class Route:
    """The decision for one prompt: which edit answers, if any, and why.

    Attributes:
        edit: id of the edit that fires; ``None`` for the base model.
        distance: distance of the prompt's key to that of ``nearest``; in paper mode to the centre of the nearest
            cluster. ``None`` without edits or prompt.
        threshold: the distance below which an edit is in scope, or, where a judge decides, is read by it; in paper mode
            the radius of that cluster, which is itself in scope.
        nearest: id of the nearest edit, or of the one that the judge scored best, whether it fires or not.
        reason: why it fires, or why it does not.
        boundary: how the end of the prompt was known.
        score: the judge's probability that the prompt asks what this edit asks; ``None`` where no judge read them.
        least_score: the probability that it must exceed; ``None`` where no judge decides.
        user_turn_known: whether the key was pooled over the user's text alone; if not, over the whole prompt.
    """

    edit: str | None
    distance: float | None
    threshold: float
    nearest: str | None
    reason: Reason
    boundary: Boundary = "given"
    user_turn_known: bool = True
    score: float | None = None
    least_score: float | None = None

    def without_prompt(self) -> Route:
        """Return the route of a prompt that has no words: no edit answers it."""
        return Route(None, None, self.threshold, None, "no prompt", self.boundary, self.user_turn_known)


class Neighbours(NamedTuple):
    """The edits that lie near an edit.

    Attributes:
        nearest: id of the nearest other edit; ``None`` if there is none.
        distance: the distance to it; ``None`` if there is none.
        overlaps: ids of edits whose scopes overlap this one's: the nearest key decides between them.
    """

    nearest: str | None
    distance: float | None
    overlaps: list[str]


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt.

    Attributes:
        prompt: the prompt.
        text: the answer.
        route: how the prompt was routed.
        tokens: number of generated tokens, the end token not counted.
    """

    prompt: Prompt
    text: str
    route: Route
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Broken:
    """A prompt of an edit that no longer gives the edit's target.

    Attributes:
        id: the edit's id.
        prompt: the prompt or variant.
        target: the answer that it must get.
        answer: the answer that it gets.
        route: how it was routed.
        form: the form in which it was asked.
    """

    id: str
    prompt: Prompt
    target: str
    answer: str
    route: Route
    form: Form


@dataclass(frozen=True)
class Check:
    """The result of ``Editor.check``.

    Attributes:
        checked: number of edits that were asked.
        broken: prompts that no longer give their target.
        overlaps: pairs of ids of which a key of one lies in the scope of the other.
        problems: damage to the store's file, or to the model under it.
    """

    checked: int
    broken: list[Broken] = field(default_factory=list)
    overlaps: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return asdict(self)


class TriedNeighbour(NamedTuple):
    """A question that an edit should not answer, and whether it would.

    Attributes:
        prompt: the question.
        kind: how it differs from the edit's.
        score: the judge's probability that it asks the same.
        fires: whether the edit would answer it.
    """

    prompt: str
    kind: str
    score: float
    fires: bool


@dataclass(frozen=True)
class Trial:
    """What an edit would reach of its likely neighbours.

    Attributes:
        id: the edit's id.
        neighbours: the questions that were asked, the likeliest to fire first; none without a judge.
        silenced: those that would fire, of whose words one was changed: the edit is kept quiet on them by itself.
    """

    id: str
    neighbours: list[TriedNeighbour] = field(default_factory=list)
    silenced: list[str] = field(default_factory=list)

    @property
    def reached(self) -> list[TriedNeighbour]:
        """The neighbours that would get the edit's answer."""
        return [one for one in self.neighbours if one.fires and one.prompt not in self.silenced]

    @property
    def warned(self) -> bool:
        """Whether the edit should be looked at."""
        return bool(self.reached)

    @property
    def sentence(self) -> str:
        """How many neighbours would get the edit's answer, and the worst; empty if none would."""
        if not self.reached:
            return ""
        count = f"{len(self.reached)} of {len(self.neighbours)} likely neighbours would get its answer"
        return f'{count}; the worst: "{plain(shorten(self.reached[0].prompt, 80))}"'

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON-ready values."""
        return {
            "id": self.id,
            "asked": len(self.neighbours),
            "warned": self.warned,
            "neighbours": [one._asdict() for one in self.neighbours],
            "silenced": self.silenced,
        }


@dataclass(frozen=True)
class EditReport:
    """The outcome of making one edit.

    Attributes:
        id: the edit's id.
        status: ``stored``; ``skipped``: it was stored before; ``failed``: it does not hold and is not stored.
        holds: whether greedy decoding with the stored block gives the target and stops, for every prompt and form, and
            for the rewordings that it was tried in.
        steps: number of optimiser steps.
        rank: rank of the block.
        loss: mean cross-entropy of the target, nats per token.
        confidence: probability of the least probable target token over all rows: those that the block was trained on,
            and the rewordings that it was tried in; ``None`` if it was skipped.
        seconds: its share of the training time.
        nearest: id of the nearest other edit; ``None`` if there is none.
        nearest_distance: the distance to it; ``None`` if there is none.
        overlaps: ids of edits whose scopes overlap this one's: the nearest key decides between them.
        replaced: ids of edits that it replaced.
        corrections: how many wordings and quiet prompts it took over from these.
        reason: why it failed, that it is disabled, or which of the model's own generation settings forbids its target.
        trial: what became of its likely neighbours; ``None`` if it was skipped.
    """

    id: str
    status: Literal["stored", "skipped", "failed"]
    holds: bool
    steps: int = 0
    rank: int = 0
    loss: float | None = None
    confidence: float | None = None
    seconds: float = 0.0
    nearest: str | None = None
    nearest_distance: float | None = None
    overlaps: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    corrections: int = 0
    reason: str = ""
    trial: Trial | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        trial = None if self.trial is None else self.trial.to_dict()
        return asdict(replace(self, trial=None)) | {"trial": trial}
