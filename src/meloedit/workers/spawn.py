"""Processes of this machine as workers, each started anew: nothing of this process but the job goes over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from ..text import shorten
from .crew import Event, Job, Lost

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from meloedit.workers.process import main; main(int(sys.argv[1]))"
)
"""What a worker runs. It imports from where this process does, and nothing from the folder that it is started in."""


class SpawnedWorker:
    """A process that does a job; implements ``Worker``.

    It has a session of its own: Ctrl-C in a terminal reaches this process alone, which then ends it. If this process
    dies, the worker's pipe is closed, and it ends with its next word.

    Args:
        job: the job.
        environment: what its environment has besides this process's.
    """

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.connection: Connection[Any, Any]
        self.connection, theirs = Pipe()
        self._said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno()), json.dumps(sys.path)],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        theirs.close()
        self.give(job)

    def give(self, task: Any) -> None:
        """Give it a task. If it is dead, its pipe is at its end, which the next look at it tells."""
        with suppress(OSError):
            self.connection.send(task)

    def event(self) -> Event:
        """Return what it says, or that it is lost."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return Lost(self._last_words())
        return event

    def stop(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self._said.close()

    def _last_words(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        return shorten(lines[-1].strip(), 200) if lines else f"exit code {code}"


class SpawnBackend:
    """Starts processes for a job; implements ``Backend``.

    Args:
        job: the job.
        threads: of each worker.
        devices: GPUs by their numbers, which the workers take in turn; none on a CPU.
    """

    def __init__(self, job: Job, threads: int, devices: Sequence[str] = ()) -> None:
        self._job, self._threads, self._devices = job, threads, devices

    def start(self, place: int) -> SpawnedWorker:
        """Start the worker of a place."""
        # Spinning OpenMP threads slow every other process on the same cores down.
        environment = {"OMP_NUM_THREADS": str(self._threads), "OMP_WAIT_POLICY": "PASSIVE"}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[place % len(self._devices)]
        return SpawnedWorker(self._job, environment)

    def events(self, workers: Sequence[SpawnedWorker], seconds: float) -> list[tuple[SpawnedWorker, Event]]:
        """Wait for something to happen, and return it."""
        by_connection = {worker.connection: worker for worker in workers}
        return [
            (worker, worker.event())
            for connection in wait(list(by_connection), seconds)
            if (worker := by_connection.get(connection))  # type: ignore[call-overload]
        ]

    def close(self) -> None:
        """Do nothing: processes run on nothing that was opened."""
