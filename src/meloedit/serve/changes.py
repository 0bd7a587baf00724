"""ChangeThread: the one thread that changes the store. Long jobs run in parts; short changes get their turn between."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

from ..errors import MeloEditError
from .running.thread import QueueFullError

logger = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["queued", "running", "done", "failed", "cancelled"]
KEPT = 1000
"""Finished jobs that are remembered."""
FOLLOW = 1.0
"""Seconds between two looks at what other processes changed."""


class Job:
    """A change that takes long, and how far it is.

    Args:
        kind: what it does.
        by: who wants it.
        work: does it: a generator that yields wherever other changes may come between.

    Attributes:
        id: its name.
        state: where it stands.
        created: when it was wanted, in seconds since 1970; ``started`` and ``finished`` alike, ``None`` before.
        progress: the step that runs, how much of it is done, and how much there is.
        reports: what became of each edit so far.
        result: what came out, for kinds without edits.
        error: why it failed.
        cancelled: whether somebody wants it to stop.
    """

    def __init__(self, kind: str, by: str, work: Callable[[Job], Iterator[None]]) -> None:
        self.id = f"job-{secrets.token_hex(8)}"
        self.kind, self.by, self.work = kind, by, work
        self.state: State = "queued"
        self.created = time.time()
        self.started: float | None = None
        self.finished: float | None = None
        self.progress: tuple[str, int, int] = ("", 0, 0)
        self.reports: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self._listeners: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether it is finished, in whatever way."""
        return self.state in ("done", "failed", "cancelled")

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` in the job's thread whenever something changes; return what ends that."""
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self) -> None:
        """Tell the listeners that something changed."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def note(self, step: str, done: int, total: int) -> None:
        """Take note of progress; the library calls it."""
        self.progress = step, done, total
        self.tell()


class ChangeThread:
    """Runs jobs one after another, and short changes as soon as a part of the running job is done.

    Args:
        waiting: the most jobs that wait.
        follow: called before each turn, and every ``FOLLOW`` seconds while there is nothing to do.
    """

    def __init__(self, waiting: int, follow: Callable[[], object]) -> None:
        self._most, self._follow = waiting, follow
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._short: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="meloedit-changes", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the part that runs; what is stored stays, the rest of the jobs is cancelled."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def jobs(self) -> list[Job]:
        """Return the jobs, the latest first."""
        return list(self._jobs.values())[::-1]

    def find(self, job_id: str) -> Job | None:
        """Return a job, or ``None``."""
        return self._jobs.get(job_id)

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            QueueFullError: if too many wait.
        """
        with self._wake:
            if self._stopping or len(self._queue) >= self._most:
                raise QueueFullError(f"{len(self._queue)} jobs wait already: try again when they are done")
            self._jobs[job.id] = job
            over = [job_id for job_id, old in self._jobs.items() if old.over]
            for job_id in over[: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[job_id]
            self._queue.append(job)
            self._wake.notify_all()

    def change(self, work: Callable[[], T]) -> Future[T]:
        """Run a short change, at the latest when the part of the job that runs is done."""
        future: Future[T] = Future()
        with self._wake:
            if self._stopping:
                raise QueueFullError("the server is stopping: try again when it is back")
            self._short.append((future, work))
            self._wake.notify_all()
        return future

    def cancel(self, job: Job) -> None:
        """Stop a job: at once if it waits, else after the part that runs; what is stored stays."""
        job.cancelled = True
        with self._wake:
            if job in self._queue:
                self._queue.remove(job)
                _finish(job, "cancelled")

    def _run(self) -> None:
        while not self._stopping:
            with self._wake:
                if not (self._queue or self._short or self._stopping):
                    self._wake.wait(FOLLOW)
                job = self._queue.popleft() if self._queue and not self._stopping else None
            self._follow()
            self._run_short()
            if job is not None:
                self._run_job(job)
        self._run_short()
        for job in self._queue:
            _finish(job, "cancelled")

    def _run_short(self) -> None:
        while self._short:
            future, work = self._short.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)

    def _run_job(self, job: Job) -> None:
        job.state, job.started = "running", time.time()
        job.tell()
        parts = job.work(job)
        try:
            for _ in parts:
                job.tell()
                self._run_short()
                if job.cancelled or self._stopping:
                    parts.close()  # type: ignore[attr-defined]
                    _finish(job, "cancelled")
                    return
            _finish(job, "done")
        except Exception as error:
            if not isinstance(error, MeloEditError):
                logger.exception("job %s failed", job.id)
            job.error = error
            _finish(job, "failed")


def _nothing(job: Job) -> Iterator[None]:
    return iter(())


def _finish(job: Job, state: State) -> None:
    job.finished = time.time()
    job.state = state
    job.work = _nothing  # it holds the edits, which nobody needs any longer
    job.tell()
