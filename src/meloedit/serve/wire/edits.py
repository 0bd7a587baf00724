"""Edits, what is asked about them, and what is answered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...edit import Edit
from ...errors import EditError
from ..failures import RefusedError
from .shared import Asked

STRICT = ConfigDict(extra="forbid")
"""Bodies that refuse a field that they do not know: a change must not mean something else than its sender thinks."""


class EditBody(BaseModel):
    """An edit to be made, with the fields of a line of a file of edits."""

    model_config = ConfigDict(extra="allow")

    target: str | None = Field(None, description="The whole answer. A conversation in messages may end with it.")
    prompt: Asked | None = None
    messages: list[Any] | None = None
    id: str | None = Field(None, max_length=512)
    variants: list[Asked] | None = None
    quiet: list[Asked] | None = None
    metadata: dict[str, Any] | None = None


class NewEdits(BaseModel):
    """Edits to be made in one job."""

    edits: list[EditBody] = Field(min_length=1)
    replace: bool = Field(False, description="Let an edit replace one of its id, or one that may ask the same.")
    keep_both: bool = Field(False, description="Keep stored edits that ask the same in other words.")
    trial: bool = Field(True, description="Ask each edit its likely neighbours before it is stored.")
    strict: bool = Field(False, description="Do not store an edit that its trial warns of.")


USUAL: dict[str, Any] = {"replace": False, "keep_both": False, "trial": True, "strict": False}
"""How one edit alone is made."""


class TrialRequest(BaseModel):
    """Edits to be tried, without making them."""

    edits: list[EditBody] = Field(min_length=1, max_length=64)


class EditChange(BaseModel):
    """What can be changed of an edit without training."""

    model_config = STRICT

    enabled: bool


class ScopeChange(BaseModel):
    """Prompts that an edit must not answer, or must answer."""

    model_config = STRICT

    prompts: list[Asked] = Field(min_length=1, max_length=1000)
    reason: str = Field("", max_length=2000)


class RouteRequest(BaseModel):
    """A prompt of which to say where it goes."""

    prompt: Asked
    form: Literal["chat", "raw"] | None = Field(None, description="How a text is asked; by default as a chat.")


class ScanRequest(BaseModel):
    """Prompts of which to say what would answer them: a dry run."""

    prompts: list[Asked] = Field(min_length=1, max_length=10_000)
    edits: list[EditBody] = Field(default_factory=list, max_length=256)
    form: Literal["chat", "raw"] | None = None


class EditVersion(BaseModel):
    """An edit as it was at a revision."""

    prompt: Any
    target: str
    variants: list[Any]
    quiet: list[Any]
    metadata: dict[str, Any]
    over_tools: bool = Field(description="Whether it answers behind a tool's result, too.")
    subject: str = Field(description="What its prompt is about; empty: not said.")
    enabled: bool


class StoredEditBody(EditVersion):
    """A stored edit."""

    id: str
    revision: int = Field(description="The revision of its latest change.")
    rank: int
    report: dict[str, Any]
    hits: int
    last_hit: float | None = Field(description="In seconds since 1970.")


class EditList(BaseModel):
    """A page of edits."""

    object: Literal["list"] = "list"
    data: list[StoredEditBody]
    total: int = Field(description="How many edits there are that fit the search.")
    next: str | None = Field(description="The cursor of the next page; null: this was the last one.")
    revision: int


class JobBody(BaseModel):
    """A job."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    by: str
    created: float
    started: float | None
    finished: float | None
    step: str
    done: int
    total: int
    reports: list[dict[str, Any]] = Field(description="What became of each edit so far.")
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    revision: int


class JobList(BaseModel):
    """The jobs, the latest first, without their reports."""

    object: Literal["list"] = "list"
    data: list[JobBody]


class Changed(BaseModel):
    """A change that is stored."""

    revision: int


class RouteBody(BaseModel):
    """Where a prompt goes."""

    edit: str | None
    reason: str
    nearest: str | None
    distance: float | None
    threshold: float | None
    score: float | None
    least_score: float | None
    user_turn_known: bool
    revision: int
    evidence: dict[str, Any] | None = Field(description="The terms of the similarity to the nearest edit.")


class TrialList(BaseModel):
    """What edits would reach of their likely neighbours."""

    data: list[dict[str, Any]]


class ScanLine(BaseModel):
    """A prompt that an edit would answer, or that comes near one."""

    index: int = Field(description="The place of the prompt in the request.")
    edit: str
    fires: bool
    reason: str
    distance: float | None
    score: float | None


class ScanBody(BaseModel):
    """What would answer the prompts; those that no edit is near are left out."""

    prompts: int
    fired: int
    lines: list[ScanLine]
    revision: int


class RollbackRequest(BaseModel):
    """Where to go back to."""

    model_config = STRICT

    to: int = Field(ge=1, lt=2**53)


class CalibrateRequest(BaseModel):
    """How to set the scope; see ``Editor.calibrate``."""

    model_config = STRICT

    prompts: list[Asked] | None = Field(None, min_length=1, max_length=100_000)
    origin: str = Field("given", max_length=512)
    false_activation: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    false_neighbour: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    min_similarity: float | None = Field(None, ge=-1, le=1, allow_inf_nan=False)


class RevisionEdit(BaseModel):
    """An edit that a revision changed."""

    id: str
    present: bool = Field(description="Whether it was there after it.")
    enabled: bool
    prompt: Any = Field(description="What it asks now; null: it is not there now.")


class RevisionBody(BaseModel):
    """One change in the history."""

    revision: int
    time: str
    action: str
    by: str | None
    detail: dict[str, Any]
    edits: list[RevisionEdit]


class History(BaseModel):
    """Changes, the latest first."""

    object: Literal["list"] = "list"
    data: list[RevisionBody]
    revision: int


class ChangedEdit(BaseModel):
    """An edit at two revisions; null: it was not there."""

    id: str
    old: EditVersion | None
    new: EditVersion | None


class Difference(BaseModel):
    """How the edits of two revisions differ; a changed edit is in both lists."""

    removed: list[str]
    added: list[str]
    changes: list[ChangedEdit] | None = Field(description="With `details`: what changed, of so many edits at most.")


class StoreBody(BaseModel):
    """What is served."""

    model: str
    store: str
    mode: str
    form: Literal["chat", "raw"] = Field(description="How a text is asked: as a chat where the model has a template.")
    revision: int
    edits: int
    enabled: int
    least_score: float | None
    threshold: float | None
    calibrated: bool


def edits_of(bodies: list[EditBody]) -> list[Edit]:
    """Return the edits of a request.

    Raises:
        RefusedError: naming the first that is none, or whose id no address can name.
    """
    made = []
    for i, body in enumerate(bodies):
        try:
            made.append(Edit.from_dict(body.model_dump(exclude_unset=True)))
        except EditError as error:
            raise RefusedError(400, f"edits[{i}]: {error}", f"edits[{i}]", "edit") from None
        if not addressable(made[-1].id):
            wrong = f"edits[{i}]: {made[-1].id!r} cannot be the last part of an address: choose another id"
            raise RefusedError(400, wrong, f"edits[{i}].id", "edit")
    return made


def addressable(edit_id: str) -> bool:
    """Return whether ``/v1/edits/ID`` names an edit: not so ids that end the address of something else."""
    parts = edit_id.split("/")
    return edit_id.isprintable() and not (
        {"", ".", ".."} & set(parts) or parts[0] in ("jobs", "trial") or parts[-1] in ("quiet", "allow")
    )
