"""The store: what is served, its history, how two revisions differ, and the hits of edits."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from ...store import StoredEdit
from ..wire import edits as wire
from ..wire.shared import errors
from ..works import check_reachable
from .common import ServiceOf
from .edits import finite, form_of, version_of

router = APIRouter(prefix="/v1/store", responses=errors())

Number = Annotated[int, Query(ge=1, lt=2**53)]


class HourOfHits(BaseModel):
    """How often an edit answered within an hour."""

    edit: str
    hour: int
    count: int


class HitList(BaseModel):
    """Hits by hour."""

    data: list[HourOfHits]


class PromptLine(BaseModel):
    """A prompt that was kept."""

    edit: str
    time: float
    fired: bool
    reason: str
    score: float | None
    prompt: Any


class PromptList(BaseModel):
    """Kept prompts, the latest first; none unless the operator keeps prompts."""

    kept: bool
    data: list[PromptLine]


@router.get("")
def read_store(service: ServiceOf, response: Response) -> wire.StoreBody:
    """Say what is served."""
    editor = service.editor
    stored = editor.store.edits()
    response.headers["ETag"] = f'"{editor.store.revision}"'
    return wire.StoreBody(
        model=service.name,
        store=editor.store.path.name,
        mode=editor.config.mode,
        form=form_of(service),
        revision=service.revision,
        edits=len(stored),
        enabled=sum(one.enabled for one in stored),
        least_score=finite(editor.least_score),
        threshold=finite(editor.threshold),
        calibrated=editor.engine.policy.ready,
    )


@router.get("/history")
def history(
    service: ServiceOf,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**53, description="Only older revisions.")] = None,
    edit: Annotated[str | None, Query(max_length=512, description="Only changes of this edit.")] = None,
) -> wire.History:
    """List changes, the latest first, with who made them."""
    store = service.editor.store
    skipped = 0 if before is None else max(0, store.revision - before + 1)
    found = store.history(edit, None if edit is not None else limit + skipped)
    found = [one for one in found if before is None or one.revision < before][-limit:]
    data = [
        wire.RevisionBody(
            revision=one.revision,
            time=one.time,
            action=one.action,
            by=one.detail.get("by"),
            detail={name: value for name, value in one.detail.items() if name != "by"},
            edits=[
                wire.RevisionEdit(
                    id=change.edit_id,
                    present=change.record is not None,
                    enabled=change.enabled,
                    prompt=None if (now := store.find(change.edit_id)) is None else now.edit.prompt,
                )
                for change in one.changes
            ],
        )
        for one in reversed(found)
    ]
    return wire.History(data=data, revision=store.revision)


@router.get("/diff")
def difference(
    service: ServiceOf,
    old: Number,
    new: Number,
    details: Annotated[int, Query(ge=0, le=1000, description="Of how many edits to tell what changed.")] = 0,
) -> wire.Difference:
    """Say how the edits of two revisions differ."""
    check_reachable(service, old)
    check_reachable(service, new)
    store = service.editor.store
    removed, added = store.diff(old, new)
    changes = None
    if details:
        before, after = ({one.edit.id: _version(one) for one in store.edits(at)} for at in (old, new))
        changed = list(dict.fromkeys((*removed, *added)))[:details]
        changes = [wire.ChangedEdit(id=one, old=before.get(one), new=after.get(one)) for one in changed]
    return wire.Difference(removed=removed, added=added, changes=changes)


def _version(stored: StoredEdit) -> wire.EditVersion:
    return wire.EditVersion(**version_of(stored))


@router.get("/hits")
def hits(
    service: ServiceOf,
    edit: Annotated[str | None, Query(max_length=512)] = None,
    hours: Annotated[int, Query(ge=1, le=24 * 366)] = 24 * 7,
) -> HitList:
    """Say how often edits answered, by hour."""
    found = service.statistics.by_hour(edit, hours)
    return HitList(data=[HourOfHits(edit=name, hour=hour, count=count) for name, hour, count in found])


@router.get("/prompts")
def prompts(
    service: ServiceOf,
    edit: Annotated[str | None, Query(max_length=512)] = None,
    near: Annotated[bool, Query(description="Those that came near, in place of those that were answered.")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PromptList:
    """List kept prompts, if the operator keeps some."""
    kept = [PromptLine(**one._asdict()) for one in service.statistics.prompts(edit, near, limit)]
    return PromptList(kept=service.settings.keep_prompts is not None, data=kept)
