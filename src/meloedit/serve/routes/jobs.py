"""Jobs: new edits, checks, calibrations, rollbacks; how far they are, and what came out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from ...edit import contradiction, prompt_list
from ..changes import Job
from ..failures import Json, RefusedError, error_body, refused
from ..service import Service, check_revision
from ..wire import edits as wire
from ..wire.shared import errors, prompt_of
from ..works import calibrate_work, check_reachable, check_work, edit_work, rollback_work
from .common import CallerOf, Expected, ServiceOf
from .edits import check_lengths

router = APIRouter(prefix="/v1", responses=errors(412, 422, 504))

Key = Annotated[str | None, Header(min_length=1, max_length=255, description="A repeated request gets the same job.")]
Wait = Annotated[float, Query(ge=0, le=600, allow_inf_nan=False, description="Seconds to wait for the job to finish.")]
ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": wire.JobBody, "description": "The job is finished."},
    202: {"model": wire.JobBody, "description": "The job waits or runs."},
}
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
NEWS = 0.2
"""Seconds between two events of one job, at least."""


def job_body(service: Service, job: Job, reports: bool = True) -> wire.JobBody:
    """Return a job as it goes over the wire."""
    step, done, total = job.progress
    error = None
    if job.error is not None:
        refusal = refused(job.error, service.editor.store.path)
        error = error_body(refusal.status, refusal.message, refusal.param, refusal.code)["error"]
    return wire.JobBody(
        id=job.id,
        kind=job.kind,
        state=job.state,
        by=job.by,
        created=job.created,
        started=job.started,
        finished=job.finished,
        step=step,
        done=done,
        total=total,
        reports=list(job.reports) if reports else [],
        result=job.result,
        error=error,
        revision=service.revision,
    )


@router.post("/edits", response_model=wire.JobBody, status_code=202, responses=ACCEPTED)
async def make_edits(
    service: ServiceOf,
    by: CallerOf,
    expected: Expected,
    body: wire.NewEdits | wire.EditBody,
    wait: Wait = 0,
    idempotency_key: Key = None,
) -> Response:
    """Make one edit or many: a job, in which each is stored whole or not at all."""
    many = body if isinstance(body, wire.NewEdits) else wire.NewEdits(edits=[body], **wire.USUAL)
    if len(many.edits) > service.settings.max_edits:
        raise RefusedError(
            413, f"{len(many.edits)} edits in one request, {service.settings.max_edits} are taken: split them"
        )
    if many.strict and not many.trial:
        raise RefusedError(400, "strict needs the trial: leave out trial", "strict")
    edits = wire.edits_of(many.edits)
    await asyncio.to_thread(check_lengths, service, edits)
    if clash := contradiction(edits):
        message = f"edit {clash[1] + 1} contradicts edit {clash[0] + 1}: same prompt or id, other target"
        raise RefusedError(400, f"{message}; keep one of them", f"edits[{clash[1]}]", "edit")
    options = {"replace": many.replace, "keep_both": many.keep_both, "trial": many.trial, "strict": many.strict}
    work = edit_work(service, by, edits, options, expected)
    return await _submit(service, Job("edit", by.name, work), expected, wait, idempotency_key, many.model_dump())


@router.post("/store/check", response_model=wire.JobBody, status_code=202, responses=ACCEPTED)
async def check(service: ServiceOf, by: CallerOf, wait: Wait = 0, idempotency_key: Key = None) -> Response:
    """Ask every edit again in every wording, and look for damage in the file."""
    job = Job("check", by.name, check_work(service))
    return await _submit(service, job, None, wait, idempotency_key, {})


@router.post("/store/rollback", response_model=wire.JobBody, status_code=202, responses=ACCEPTED)
async def rollback(
    service: ServiceOf,
    by: CallerOf,
    expected: Expected,
    body: wire.RollbackRequest,
    wait: Wait = 0,
    idempotency_key: Key = None,
) -> Response:
    """Bring back the edits of a revision; that can be undone in the same way."""
    check_reachable(service, body.to)
    job = Job("rollback", by.name, rollback_work(service, by, body.to, expected))
    return await _submit(service, job, expected, wait, idempotency_key, body.model_dump())


@router.post("/store/calibrate", response_model=wire.JobBody, status_code=202, responses=ACCEPTED)
async def calibrate(
    service: ServiceOf,
    by: CallerOf,
    expected: Expected,
    body: wire.CalibrateRequest,
    wait: Wait = 0,
    idempotency_key: Key = None,
) -> Response:
    """Set the scope by your own traffic, or by other stated rates."""
    prompts = None if body.prompts is None else prompt_list([prompt_of(prompt) for prompt in body.prompts])
    scope = {name: getattr(body, name) for name in ("false_activation", "false_neighbour", "min_similarity")}
    work = calibrate_work(service, by, prompts, body.origin, scope, expected)
    job = Job("calibrate", by.name, work)
    return await _submit(service, job, expected, wait, idempotency_key, body.model_dump())


async def _submit(
    service: Service, job: Job, expected: int | None, wait: float, key: str | None, body: Any
) -> Response:
    check_revision(expected, service.editor.store.revision)
    job, _ = service.submit(job, key, body)
    if wait:
        await _finished(job, wait)
    content = job_body(service, job).model_dump()
    return Json(content, 200 if job.over else 202, headers={"Location": f"/v1/edits/jobs/{job.id}"})


async def _finished(job: Job, seconds: float) -> None:
    """Return when a job is over, or so many seconds have passed."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    end = job.listen(lambda: loop.call_soon_threadsafe(over.set) if job.over else None)
    try:
        if not job.over:
            await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        pass
    finally:
        end()


@router.get("/edits/jobs")
def list_jobs(service: ServiceOf) -> wire.JobList:
    """List the jobs, the latest first."""
    return wire.JobList(data=[job_body(service, job, reports=False) for job in service.changes.jobs()[:200]])


@router.get("/edits/jobs/{job_id}")
def read_job(service: ServiceOf, job_id: str) -> wire.JobBody:
    """Say how far a job is, and what came out."""
    return job_body(service, _find(service, job_id))


@router.delete("/edits/jobs/{job_id}")
def cancel_job(service: ServiceOf, job_id: str) -> wire.JobBody:
    """Stop a job after the part that runs; the edits that are stored stay."""
    job = _find(service, job_id)
    service.changes.cancel(job)
    return job_body(service, job)


@router.get("/edits/jobs/{job_id}/events", response_class=StreamingResponse, responses=EVENTS)
async def job_events(service: ServiceOf, job_id: str) -> Response:
    """Tell how a job goes on, until it is finished, as server-sent events."""
    return StreamingResponse(_events(service, _find(service, job_id)), media_type="text/event-stream")


async def _events(service: Service, job: Job) -> AsyncIterator[str]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    end = job.listen(lambda: loop.call_soon_threadsafe(news.set))
    try:
        while True:
            news.clear()
            over = job.over
            body = job_body(service, job, reports=over).model_dump()
            yield f"data: {json.dumps(body, allow_nan=False)}\n\n"
            if over:
                return
            await asyncio.sleep(NEWS)
            await news.wait()
    finally:
        end()


def _find(service: Service, job_id: str) -> Job:
    job = service.changes.find(job_id)
    if job is None:
        raise RefusedError(
            404, f"there is no job {job_id!r}: it may have been forgotten since", "job_id", "job_not_found"
        )
    return job
