"""Actors of a Ray cluster as workers. Ray is imported here alone, when an executor needs it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import MeloEditError
from ..text import shorten
from .crew import Done, Event, Job, Lost, Ready, Refused

LEAST, BELOW = (2, 50), (2, 61)
"""Versions of Ray from the first on and below the second; ``pyproject.toml`` says the same."""
KNOCK = 10.0
"""Seconds in which a cluster's address must answer."""
INSTALL = "pip install 'meloedit[ray]'"


class Desk:
    """What runs in an actor: it does one job's tasks.

    Args:
        job: the job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def open(self) -> Event:
        """Make ready."""
        try:
            self._do = self._job.open()
        except MeloEditError as error:
            return Refused(error)
        return Ready()

    def do(self, task: Any) -> Event:
        """Do a task. How far it is nobody hears: an actor says one thing at a time."""
        try:
            return Done(self._do(task, lambda number: None))
        except MeloEditError as error:
            return Refused(error)


class ActorWorker:
    """An actor that does a job; implements ``Worker``.

    Args:
        ray: the package.
        actor: the actor.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self.actor = ray, actor
        self.awaited: Any = actor.open.remote()

    def give(self, task: Any) -> None:
        """Give it a task."""
        self.awaited = self.actor.do.remote(task)

    def event(self) -> Event:
        """Return what became of what it was given last."""
        awaited, self.awaited = self.awaited, None
        try:
            event: Event = self._ray.get(awaited)
        except self._ray.exceptions.RayError as error:
            return Lost(_reason(error))
        return event

    def stop(self) -> None:
        """End it at once, whatever it does."""
        with suppress(Exception):  # a cluster that is gone has no actors either
            self._ray.kill(self.actor, no_restart=True)


class RayBackend:
    """Starts actors for a job; implements ``Backend``.

    Actors rather than tasks: each loads the model once. Ray is told not to restart them: the crew does, as with other
    workers, and counts.

    Args:
        job: the job, which is put into the cluster once.
        threads: of each actor, and as many CPUs are asked for.
        gpu: whether each needs a GPU.
        address: of the cluster; ``None``: that of ``RAY_ADDRESS``, or the one that runs here; ``local``: one of its
            own.

    Raises:
        MeloEditError: if Ray is not installed, of another version, or no cluster is there.
    """

    def __init__(self, job: Job, threads: int, gpu: bool, address: str | None) -> None:
        self._ray = ray = _ray()
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(ray, address)
        self._job = ray.put(job)
        self._remote = ray.remote(Desk).options(
            num_cpus=threads,
            num_gpus=int(gpu),
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}},
        )

    def start(self, place: int) -> ActorWorker:
        """Start the worker of a place."""
        return ActorWorker(self._ray, self._remote.remote(self._job))

    def events(self, workers: Sequence[ActorWorker], seconds: float) -> list[tuple[ActorWorker, Event]]:
        """Wait for something to happen, and return it."""
        by_reference = {worker.awaited: worker for worker in workers if worker.awaited is not None}
        if not by_reference:
            time.sleep(seconds)
            return []
        found, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=seconds)
        return [(by_reference[reference], by_reference[reference].event()) for reference in found]

    def close(self) -> None:
        """Leave the cluster, if it was joined here."""
        if self._joined:
            self._ray.shutdown()


def _ray() -> Any:
    """Return the package.

    Raises:
        MeloEditError: if it is not installed, or of another version.
    """
    wanted = f"ray>={LEAST[0]}.{LEAST[1]},<{BELOW[0]}.{BELOW[1]}"
    try:
        import ray

        found = version("ray")
    except (ImportError, PackageNotFoundError):
        raise MeloEditError(f"executor ray needs {wanted}: {INSTALL}") from None
    if not LEAST <= tuple(map(int, found.split(".")[:2])) < BELOW:
        raise MeloEditError(f"executor ray needs {wanted}, and {found} is installed: {INSTALL}")
    return ray


def _join(ray: Any, address: str | None) -> None:
    """Join a running cluster, or make one of this machine where ``local`` is the address.

    Raises:
        MeloEditError: if there is none, or it cannot be joined.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        _knock(where)
        ray.init(address=where, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises errors of many classes: no cluster, another version, no token
        named = "is running here" if where == "auto" else f"can be joined at {where}"
        why = shorten(" ".join(str(error).split()), 200)
        if where == "local":
            raise MeloEditError(f"a Ray cluster cannot be started here ({why})") from None
        raise MeloEditError(
            f"no Ray cluster {named} ({why}): start one (ray start --head), give its address (--address), or take "
            "executor spawn (--executor spawn)"
        ) from None


def _knock(where: str) -> None:
    """Raise an error if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = where.rpartition(":")
    if host and port.isdecimal() and "://" not in where:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


def _reason(error: Exception) -> str:
    """Return the last line of what Ray says of a failure: above it stand tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(lines[-1], 200) if lines else type(error).__name__
