"""Follower: the edits that answer, and a second reading of the store that takes their place when it has changed.

The store is read in a thread of its own. What it has read answers from the next pass on: two readings take turns, so
that no pass waits for the file, for keys, or for the judge. They share the blocks.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import MeloEditError

if TYPE_CHECKING:
    from .host import ServedLive

logger = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at the store."""
TURN = 0.0005
"""Seconds after which Python lets another thread run: its own 5 ms would hold a pass up at each of its operations."""


class Follower:
    """Follows a store.

    Args:
        make: reads the whole store anew.
        every: seconds between two looks.
    """

    def __init__(self, make: Callable[[], ServedLive], every: float = EVERY) -> None:
        self._make, self._every = make, every
        self.live = make()
        self.lock = threading.Lock()  # held as long as a pass runs
        self.trouble: str | None = None
        self._other: ServedLive | None = None
        self._follows = threading.Lock()  # one look at a time
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="meloedit-follower", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._turn = sys.getswitchinterval()
        sys.setswitchinterval(min(self._turn, TURN))
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stop.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
            sys.setswitchinterval(self._turn)

    def wake(self) -> None:
        """Let the thread look at once."""
        self._wake.set()

    def look(self) -> int:
        """Follow the store now, and return the revision that answers from the next pass on.

        Raises:
            MeloEditError: if it cannot be followed: then what was read before goes on answering.
        """
        with self._follows:
            if self._other is None:
                self._other = self._make()
            self._other.refresh()
            if self._other.revision != self.live.revision:
                self._other.check(self.live.store.model)
                with self.lock:  # between two passes
                    self.live, self._other = self._other, self.live
                self._other.refresh()  # the next change finds it as far as this one
                self.live.host.bank.sweep(self.live.holders | self._other.holders)
            return self.live.revision

    def facts(self) -> dict[str, Any]:
        """Return what answers, and what keeps the store from being followed."""
        live = self.live
        return {
            "revision": live.revision,
            "edits": live.policy.counts["edits"],
            "threshold": live.policy.threshold,
            "least_score": live.policy.least_score,
            "trouble": self.trouble,
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._every)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self.look()
                self.trouble = None
            except Exception as error:  # whatever it is, the thread must live
                if self.trouble != str(error):
                    known = isinstance(error, MeloEditError)
                    logger.error(
                        "%s; until then vLLM goes on with revision %d",
                        error,
                        self.live.revision,
                        exc_info=None if known else error,
                    )
                self.trouble = str(error)
