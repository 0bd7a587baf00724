"""The edits: list, make, read, change, remove; where a prompt would go; trials and scans."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from ...edit import Edit, prompt_list, prompt_text
from ...errors import EditError
from ...oversight.near_misses import is_near
from ...results import Route
from ...store import StoredEdit
from ..failures import RefusedError
from ..mapping import in_model_thread
from ..service import Service
from ..statistics import Hits
from ..wire import edits as wire
from ..wire.shared import errors, prompt_of
from .common import CallerOf, Expected, ServiceOf

router = APIRouter(prefix="/v1", responses=errors(412, 422, 504))

EDIT = "/edits/{edit_id:path}"
LONG_TOKEN = 64
"""Characters of a token, more than any text has on the average."""
Order = Literal["newest", "oldest", "hits", "fewest_hits", "last_hit"]


@router.get("/edits")
def list_edits(
    service: ServiceOf,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: Annotated[str | None, Query(description="The cursor that the page before gave.")] = None,
    search: Annotated[str | None, Query(max_length=500, description="A text in id, prompts or target.")] = None,
    state: Literal["all", "enabled", "disabled"] = "all",
    order: Order = "newest",
) -> wire.EditList:
    """List stored edits, a page at a time."""
    store, hits = service.editor.store, service.statistics.hits()
    stored, revision = store.edits(), store.revision
    fitting = [one for one in stored if _fits(one, search, state)]
    fitting.sort(key=lambda one: _place(one, order, hits))
    cursor = None if after is None else _place_of(after)
    rest = fitting if cursor is None else [one for one in fitting if _place(one, order, hits) > cursor]
    page = rest[:limit]
    response.headers["ETag"] = f'"{revision}"'
    return wire.EditList(
        data=[edit_body(one, hits.get(one.edit.id)) for one in page],
        total=len(fitting),
        next="_".join(map(repr, _place(page[-1], order, hits))) if len(rest) > limit else None,
        revision=revision,
    )


def _fits(stored: StoredEdit, search: str | None, state: str) -> bool:
    if state != "all" and stored.enabled != (state == "enabled"):
        return False
    if not search:
        return True
    edit = stored.edit
    texts = (edit.id, edit.target, *(prompt_text(prompt) for prompt in (*edit.prompts, *edit.quiet)))
    return any(search.casefold() in text.casefold() for text in texts)


def _place(stored: StoredEdit, order: Order, hits: Mapping[str, Hits]) -> tuple[float, int]:
    """Return what an order sorts by, so that the first edit has the least; edits that are equal go by their age."""
    own = hits.get(stored.edit.id)
    if order in ("newest", "oldest"):
        return 0.0, -stored.record if order == "newest" else stored.record
    if order == "last_hit":
        return -(own.last if own else 0.0), -stored.record
    times = float(own.times if own else 0)
    return times if order == "fewest_hits" else -times, -stored.record


def _place_of(cursor: str) -> tuple[float, int]:
    """Return the place of the last edit of a page."""
    try:
        value, record = cursor.split("_")
        place = float(value), int(record)
    except ValueError:
        place = math.nan, 0
    if not math.isfinite(place[0]) or len(cursor) > 60 or not cursor.isascii():
        raise RefusedError(400, "after is no cursor: take it from `next` of the page before", "after")
    return place


def version_of(stored: StoredEdit) -> dict[str, Any]:
    """Return what an edit says at a revision, as it goes over the wire."""
    edit = stored.edit
    return {
        "prompt": edit.prompt,
        "target": edit.target,
        "variants": list(edit.variants),
        "quiet": list(edit.quiet),
        "metadata": dict(edit.metadata),
        "over_tools": edit.over_tools,
        "subject": edit.subject,
        "enabled": stored.enabled,
    }


def edit_body(stored: StoredEdit, hits: Hits | None) -> wire.StoredEditBody:
    """Return a stored edit as it goes over the wire."""
    return wire.StoredEditBody(
        id=stored.edit.id,
        **version_of(stored),
        revision=stored.revision,
        rank=stored.rank,
        report=stored.report,
        hits=hits.times if hits else 0,
        last_hit=hits.last if hits else None,
    )


@router.post("/edits/trial")
async def try_edits(service: ServiceOf, body: wire.TrialRequest) -> wire.TrialList:
    """Ask edits their likely neighbours, without making them."""
    edits = wire.edits_of(body.edits)
    await asyncio.to_thread(check_lengths, service, edits)
    trials = await asyncio.to_thread(service.editor.trial, edits)  # the judge reads them, not the model
    return wire.TrialList(data=[trial.to_dict() for trial in trials])


def check_lengths(service: Service, edits: Sequence[Edit]) -> None:
    """Check that an edit has no longer prompts than may be asked here.

    Raises:
        RefusedError: naming the first that has.
    """
    most, backbone = service.settings.max_prompt, service.editor.engine.backbone
    for i, edit in enumerate(edits):
        for prompt in (*edit.prompts, *edit.quiet):
            size = len(repr(prompt))
            if size * 4 <= most:  # a character is up to four tokens
                continue
            counted = f"{size} characters"
            if size <= most * LONG_TOKEN:  # what is longer need not be read to know
                try:
                    count = len(backbone.encode(prompt).ids)
                except EditError as error:
                    raise RefusedError(400, f"edits[{i}]: {error}", f"edits[{i}]", "edit") from None
                if count <= most:
                    continue
                counted = f"{count} tokens"
            told = f"edits[{i}]: a prompt has {counted}, this server takes {most} tokens: shorten it"
            raise RefusedError(400, told, f"edits[{i}]", "edit")


@router.post("/route")
async def route(service: ServiceOf, body: wire.RouteRequest) -> wire.RouteBody:
    """Say which edit a prompt would reach, and why; nothing is generated."""
    prompt = prompt_of(body.prompt)
    form = body.form or form_of(service)

    def find() -> tuple[Route, Any, int]:
        with service.editor.engine.lock:
            (found,) = service.editor.route([prompt], form)
            (evidence,) = service.editor.evidence([prompt], form)
            return found, evidence, service.revision

    found, evidence, revision = await in_model_thread(service, find)
    return wire.RouteBody(
        edit=found.edit,
        reason=found.reason,
        nearest=found.nearest,
        distance=finite(found.distance),
        threshold=finite(found.threshold),
        score=finite(found.score),
        least_score=finite(found.least_score),
        user_turn_known=found.user_turn_known,
        revision=revision,
        evidence=None if evidence is None else _plain(evidence._asdict()),
    )


@router.post("/scan")
async def scan(service: ServiceOf, body: wire.ScanRequest) -> wire.ScanBody:
    """Say which of the posted prompts an edit would answer, or nearly: a dry run."""
    edits, form = wire.edits_of(body.edits), body.form or form_of(service)
    prompts = prompt_list([prompt_of(prompt) for prompt in body.prompts])
    lines: list[wire.ScanLine] = []
    for start in range(0, len(prompts), 32):  # between two parts answers go on
        part = prompts[start : start + 32]
        routes = await in_model_thread(service, lambda part=part: _routes(service, part, edits, form))
        lines += [
            wire.ScanLine(
                index=start + i,
                edit=one.edit or one.nearest or "",
                fires=one.edit is not None,
                reason=one.reason,
                distance=finite(one.distance),
                score=finite(one.score),
            )
            for i, one in enumerate(routes)
            if one.edit is not None or (one.nearest is not None and is_near(one))
        ]
    fired = sum(line.fires for line in lines)
    return wire.ScanBody(prompts=len(prompts), fired=fired, lines=lines, revision=service.revision)


def _routes(service: Service, prompts: list[Any], edits: list[Any], form: Any) -> list[Route]:
    engine = service.editor.engine
    if not edits:
        return service.editor.route(prompts, form)
    with engine.lock, engine.mode.unmade(edits):  # no answer is routed meanwhile: those edits have no blocks
        return service.editor.route(prompts, form)


def form_of(service: Service) -> Any:
    """Return how a text is asked where the request does not say."""
    return "chat" if getattr(service.editor.tokenizer, "chat_template", None) else "raw"


def finite(number: float | None) -> float | None:
    """Return a number that JSON can hold; ``None`` for others."""
    return None if number is None or not math.isfinite(number) else float(number)


def _plain(value: Any) -> Any:
    """Return a value of the library as JSON has it."""
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return finite(value)
    return value if isinstance(value, str | int | bool | None) else str(value)


@router.post(EDIT + "/quiet")
async def quiet(
    service: ServiceOf, by: CallerOf, expected: Expected, edit_id: str, body: wire.ScopeChange
) -> wire.Changed:
    """Keep an edit from answering prompts, and what asks the same; nothing is trained."""
    prompts = prompt_list([prompt_of(prompt) for prompt in body.prompts])
    return await change(
        service, by, "quiet", edit_id, expected, lambda: service.editor.quiet(edit_id, prompts, body.reason)
    )


@router.post(EDIT + "/allow")
async def allow(
    service: ServiceOf, by: CallerOf, expected: Expected, edit_id: str, body: wire.ScopeChange
) -> wire.Changed:
    """Let an edit answer prompts, and what asks the same; nothing is trained."""
    prompts = prompt_list([prompt_of(prompt) for prompt in body.prompts])
    return await change(
        service, by, "allow", edit_id, expected, lambda: service.editor.allow(edit_id, prompts, body.reason)
    )


@router.get(EDIT)
def read_edit(service: ServiceOf, edit_id: str, response: Response) -> wire.StoredEditBody:
    """Read one edit."""
    stored = service.editor.store.get(edit_id)
    response.headers["ETag"] = f'"{service.editor.store.revision}"'
    return edit_body(stored, service.statistics.hits().get(edit_id))


@router.patch(EDIT)
async def change_edit(
    service: ServiceOf, by: CallerOf, expected: Expected, edit_id: str, body: wire.EditChange
) -> wire.Changed:
    """Let an edit answer, or keep it from answering without removing it."""
    action = "enable" if body.enabled else "disable"
    return await change(service, by, action, edit_id, expected, lambda: getattr(service.editor, action)(edit_id))


@router.delete(EDIT)
async def remove_edit(service: ServiceOf, by: CallerOf, expected: Expected, edit_id: str) -> wire.Changed:
    """Remove an edit; its prompts get the model's own answers again. The history keeps it."""
    return await change(service, by, "remove", edit_id, expected, lambda: service.editor.remove(edit_id))


async def change(service: Service, by: Any, action: str, edit_id: str, expected: int | None, work: Any) -> wire.Changed:
    """Make a short change in the thread of changes."""
    service.editor.store.get(edit_id)  # an unknown id is told at once
    future = service.changes.change(lambda: service.signed(by, action, [edit_id], expected, work))
    return wire.Changed(revision=await asyncio.wrap_future(future))
