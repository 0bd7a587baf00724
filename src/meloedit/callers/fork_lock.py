"""ForkLock: a lock that a forked process can take, also if another thread held it when the process was forked."""

from __future__ import annotations

import os
import threading


class ForkLock:
    """A lock that its thread may take again, as ``threading.RLock``.

    Only the thread that forks lives on in the new process. A lock that another thread held would stay locked there
    for ever: the new process takes a new one in its place.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return whether it was taken, which takes no time if not ``blocking``."""
        if self._process != os.getpid():
            self._take_over()
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> ForkLock:
        self.acquire()
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()

    def _take_over(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()
        self._process = os.getpid()
