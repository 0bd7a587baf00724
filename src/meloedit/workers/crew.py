"""Crew: hands tasks to workers, does those of a dead worker again, and gives the outcomes back in order.

It knows no processes: a ``Backend`` starts workers and tells what becomes of them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Protocol

from ..errors import MeloEditError

logger = logging.getLogger(__name__)

TRIES = 3
"""How often a task is begun before it counts as lost, and how often workers may fail to start one after the other."""
AHEAD = 4
"""Tasks to a worker that may be done before their turn: the outcomes wait in memory."""
PATIENCE = 60.0
"""Seconds without any worker after which a warning says so: a cluster may have no place."""
GLANCE = 0.2
"""Seconds after which the crew looks whether anything else changed."""

Tell = Callable[[int], None]
Do = Callable[[Any, Tell], Any]
"""Does a task, and tells how far it is."""


class Job(Protocol):
    """What a worker is for. It is pickled, and so are its tasks and what they return."""

    def open(self) -> Do:
        """Make ready in the worker, once, and return what does a task."""


@dataclass(frozen=True)
class Ready:
    """The worker waits for a task."""


@dataclass(frozen=True)
class Told:
    """How far the worker is with its task."""

    number: int


@dataclass(frozen=True)
class Done:
    """The task is done."""

    result: Any


@dataclass(frozen=True)
class Refused:
    """The job, or a task, cannot be done, whoever tries: the worker raised an error for the user."""

    error: MeloEditError


@dataclass(frozen=True)
class Lost:
    """The worker died, or its task broke it."""

    reason: str


Event = Ready | Told | Done | Refused | Lost
Outcome = Done | Refused | Lost


class Worker(Protocol):
    """A worker. It begins with the job; what comes of that, and of every task, is told as an event."""

    def give(self, task: Any) -> None:
        """Give it a task. If it is dead, the next event says so."""

    def stop(self) -> None:
        """End it at once, whatever it does."""


class Backend(Protocol):
    """Starts workers for one job, and tells what becomes of them."""

    def start(self, place: int) -> Worker:
        """Start the worker of a place, the first one being 0."""

    def events(self, workers: Sequence[Any], seconds: float) -> list[tuple[Any, Event]]:
        """Wait for something to happen, at most so long, and return it: at most one event for each worker."""

    def close(self) -> None:
        """Leave what the workers ran on."""


class Crew:
    """Does tasks with some workers.

    Args:
        backend: starts them.
        size: how many.
    """

    def __init__(self, backend: Backend, size: int) -> None:
        self._backend, self._size = backend, size

    def run(
        self, tasks: Sequence[Any], tell: Callable[[int, int], None] | None = None
    ) -> Generator[Outcome, None, None]:
        """Yield the outcome of each task, in order. Leaving off ends the workers.

        Args:
            tasks: the tasks.
            tell: told a task's number and how far it is; called by this thread.

        Raises:
            MeloEditError: if no worker can be started.
        """
        shift = Shift(self._backend, min(self._size, len(tasks)), tasks)
        thread = threading.Thread(target=shift.work, name="meloedit crew", daemon=True)
        thread.start()
        try:
            done: dict[int, Outcome] = {}
            for number in range(len(tasks)):
                while number not in done:
                    told = shift.told.get()
                    if isinstance(told, BaseException):
                        raise told
                    about, event = told
                    if not isinstance(event, Told):
                        done[about] = event
                    elif tell:
                        tell(about, event.number)
                shift.taken = number + 1
                yield done.pop(number)
        finally:
            shift.over = True
            thread.join()


class Shift:
    """The thread of a crew: it keeps the workers busy while another thread does something with the outcomes.

    Args:
        backend: starts workers.
        size: how many.
        tasks: the tasks.

    Attributes:
        told: outcomes by the number of their task, how far tasks are, and what ended the shift.
        taken: how many outcomes were taken.
        over: whether nobody wants the rest.
    """

    def __init__(self, backend: Backend, size: int, tasks: Sequence[Any]) -> None:
        self._backend, self._size, self._tasks = backend, size, tasks
        self.told: queue.SimpleQueue[tuple[int, Outcome | Told] | BaseException] = queue.SimpleQueue()
        self.taken, self.over = 0, False
        self._waiting = list(range(len(tasks)))  # a heap
        self._tries: Counter[int] = Counter()
        self._place: dict[Any, int] = {}  # of every worker
        self._opening: set[Any] = set()
        self._task: dict[Any, int] = {}  # of the workers that have one
        self._failed_starts, self._began = 0, time.monotonic()

    def work(self) -> None:
        """Do all tasks, or raise in the other thread what keeps them from being done."""
        try:
            while not self.over and (self._waiting or self._task):
                self._start_workers()
                self._hand_out()
                for worker, event in self._backend.events(list(self._place), GLANCE):
                    self._take(worker, event)
                self._warn()
        except BaseException as error:  # it is raised again in the thread that waits
            self.told.put(error)
        finally:
            for worker in list(self._place):
                self._dismiss(worker)
            self._backend.close()

    def _start_workers(self) -> None:
        needed = min(self._size, len(self._waiting) + len(self._task))
        for place in sorted(set(range(self._size)) - set(self._place.values()))[: max(0, needed - len(self._place))]:
            worker = self._backend.start(place)
            self._place[worker] = place
            self._opening.add(worker)

    def _hand_out(self) -> None:
        for worker in self._place:
            if worker in self._opening or worker in self._task or not self._waiting:
                continue
            if self._waiting[0] >= self.taken + AHEAD * self._size:
                return
            self._task[worker] = number = heappop(self._waiting)
            self._tries[number] += 1
            worker.give(self._tasks[number])

    def _take(self, worker: Any, event: Event) -> None:
        if isinstance(event, Ready):
            self._opening.discard(worker)
            self._failed_starts = 0
        elif isinstance(event, Told):
            self.told.put((self._task[worker], event))
        elif isinstance(event, Lost):
            self._lose(worker, event)
        elif worker in self._opening:
            raise event.error if isinstance(event, Refused) else AssertionError(event)
        else:
            self.told.put((self._task.pop(worker), event))

    def _lose(self, worker: Any, event: Lost) -> None:
        opening, number = worker in self._opening, self._task.get(worker)
        self._dismiss(worker)
        if number is not None and self._tries[number] < TRIES:
            logger.warning("a worker was lost (%s): what it did is done again", event.reason)
            heappush(self._waiting, number)
        elif number is not None:
            self.told.put((number, event))
        if opening:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:  # the others go on, if there are any
                self._size = len(self._place)
                if not self._size:
                    raise MeloEditError(f"no worker can be started: {event.reason}")

    def _dismiss(self, worker: Any) -> None:
        del self._place[worker]
        self._opening.discard(worker)
        self._task.pop(worker, None)
        with suppress(OSError):
            worker.stop()

    def _warn(self) -> None:
        if self._began and len(self._opening) < len(self._place):
            self._began = 0.0
        if self._began and time.monotonic() - self._began > PATIENCE:
            self._began = 0.0
            logger.warning("no worker is ready yet: they load the model, or there is no place for them")
