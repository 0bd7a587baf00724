"""The work of jobs: edits, checks, calibrations, rollbacks. Each yields wherever other changes may come between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..engine.editing import EditRun
from ..engine.planning import Planner
from .changes import Job
from .failures import RefusedError
from .service import Service, check_revision

if TYPE_CHECKING:
    from ..edit import Edit
    from ..types import Prompt
    from .tokens import Caller

Work = Callable[[Job], Iterator[None]]


def edit_work(
    service: Service, by: Caller, edits: Sequence[Edit], options: Mapping[str, bool], expected: int | None
) -> Work:
    """Make edits, some at a time: what is stored stays, whatever becomes of the rest.

    Args:
        service: what is served.
        by: who wants them.
        edits: the edits.
        options: ``replace``, ``keep_both``, ``trial``, ``strict``, as ``Editor.edit`` takes them.
        expected: the revision at which the store must be; ``None``: any.
    """
    editor, engine = service.editor, service.editor.engine

    def work(job: Job) -> Iterator[None]:
        job.progress = "checking", 0, len(edits)
        with editor.store.signed(by.name):
            check_revision(expected, editor.store.revision)
            prepared = Planner(engine, options["replace"], options["keep_both"]).prepare(edits)
            editor.prepare(job.note)
            size = engine.mode.batch_size(None)
            if not engine.mode.stores_all:  # in paper mode the edits of a batch share a block
                size = min(size, service.settings.edits_at_once)
            run = EditRun(engine, prepared, size, job.note, options["trial"], options["strict"])
            before = editor.store.revision
            for reports in run.parts():
                job.reports += [report.to_dict() for report in reports]
                for report in reports:
                    service.metrics.reports.labels(report.status).inc()
                    service.metrics.training.inc(report.seconds)
                if editor.store.revision != before:
                    stored = [report.id for report in reports if report.status == "stored"]
                    service.write_audit(by, "edit", stored, before)
                yield
                before = editor.store.revision

    return work


def check_work(service: Service) -> Work:
    """Ask every edit again, and look for damage."""

    def work(job: Job) -> Iterator[None]:
        job.result = service.editor.check(progress=job.note).to_dict()
        yield

    return work


def rollback_work(service: Service, by: Caller, to: int, expected: int | None) -> Work:
    """Bring back the edits of a revision."""

    def work(job: Job) -> Iterator[None]:
        revision = service.signed(by, "rollback", [str(to)], expected, lambda: service.editor.rollback(to))
        job.result = {"revision": revision}
        yield

    return work


def calibrate_work(
    service: Service,
    by: Caller,
    prompts: Sequence[Prompt] | None,
    origin: str,
    scope: Mapping[str, float | None],
    expected: int | None,
) -> Work:
    """Set the scope anew."""

    def work(job: Job) -> Iterator[None]:
        def calibrate() -> int:
            return service.editor.calibrate(prompts, origin, job.note, **scope)  # type: ignore[arg-type]

        job.result = {"revision": service.signed(by, "calibrate", [], expected, calibrate)}
        yield

    return work


def check_reachable(service: Service, to: int) -> None:
    """Check that the store has a revision.

    Raises:
        RefusedError: with 404, if it has none of this number.
    """
    latest = service.editor.store.revision
    if not 1 <= to <= latest:
        raise RefusedError(404, f"the store has no revision {to}: it has 1 to {latest}", code="revision_not_found")
