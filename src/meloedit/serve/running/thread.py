"""ModelThread: the one thread that answers. Between two steps it lets new answers in, and runs short calls."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import MeloEditError
from .batch import RunningBatch
from .ticket import Failed, Ticket

if TYPE_CHECKING:
    from ...editor import Editor

logger = logging.getLogger(__name__)

T = TypeVar("T")


class QueueFullError(MeloEditError):
    """So many answers wait that another one is refused."""


class ModelThread:
    """Owns the model for answers.

    Args:
        editor: the edited model.
        size: the most answers at once.
        waiting: the most answers that wait.
    """

    def __init__(self, editor: Editor, size: int, waiting: int) -> None:
        self._batch, self._most = RunningBatch(editor, size), waiting
        self._queue: deque[list[Ticket]] = deque()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="meloedit-model", daemon=True)

    @property
    def size(self) -> int:
        """The most answers at once."""
        return self._batch.size

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """How many answers wait."""
        return sum(map(len, list(self._queue)))

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return len(self._batch)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what waits and what runs, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Let answers of one request wait for their turn; they start together if the running batch has room for them.

        Raises:
            QueueFullError: if too many wait.
        """
        with self._wake:
            if self._stopping:
                raise QueueFullError("the server is stopping: ask again when it is back")
            if self.waiting + len(tickets) > self._most:
                raise QueueFullError(f"{self.waiting} answers wait already: ask again later")
            self._queue.append(list(tickets))
            self._wake.notify_all()

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Run a short piece of work in this thread, between two steps."""
        future: Future[T] = Future()
        with self._wake:
            if self._stopping:
                raise QueueFullError("the server is stopping: ask again when it is back")
            self._calls.append((future, work))
            self._wake.notify_all()
        return future

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._queue or self._calls or len(self._batch) or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    break
                call = self._calls.popleft() if self._calls else None
                new = self._next()
            if call is not None:
                _answer(*call)
            self._guarded(new)
        error = QueueFullError("the server is stopping: ask again when it is back")
        self._batch.drop_all(error)
        for ticket in (ticket for group in self._queue for ticket in group):
            ticket.tell(Failed(error))
        for future, _ in self._calls:
            future.cancel()

    def _next(self) -> list[Ticket]:
        """Take from the queue, in its order, the requests for which the batch has room; those given up leave it."""
        groups = [[ticket for ticket in group if not _left(ticket)] for group in self._queue]
        self._queue = deque(group for group in groups if group)
        room, new = self._batch.size - len(self._batch), []
        while self._queue and len(self._queue[0]) <= room:
            group = self._queue.popleft()
            new += group
            room -= len(group)
        return new

    def _guarded(self, new: Sequence[Ticket]) -> None:
        """Let new answers in and go one step on; an error ends the answers that it concerns, and not the thread."""
        try:
            if new:
                self._batch.admit(new)
        except Exception as error:
            logger.exception("an answer could not be begun")
            for ticket in new:
                ticket.tell(Failed(error))
        try:
            if len(self._batch):
                self._batch.step()
        except Exception as error:
            logger.exception("the running answers were given up")
            self._batch.drop_all(error)


def _left(ticket: Ticket) -> bool:
    """Return whether nobody waits for a ticket any longer, and tell it if that is for its time."""
    if ticket.given_up and not ticket.cancelled:
        ticket.tell(Failed(TimeoutError("the answer had to wait longer than this server allows")))
    return ticket.given_up


def _answer(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
