"""What a caller chooses: who trains edits, or runs the methods of an evaluation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from ..callers.arguments import shown
from ..errors import ArgumentError, MeloEditError
from .crew import Crew
from .spawn import SpawnBackend
from .training import CrewTrainer, TrainingJob, loaded_by

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..training.parts import PartTrainer
    from .crew import Job
    from .training import OpenEngine

ExecutorName = Literal["local", "spawn", "ray"]
WORKERS = 2
"""Workers, unless a caller says how many."""


class Executor(Protocol):
    """Does jobs with workers.

    Attributes:
        model: what the workers load the base model by; ``None``: as this process did.
        threads: threads of a worker; ``None``: this process's, shared out.
        workers: how many workers.
    """

    model: str | None
    threads: int | None
    workers: int

    def crew(self, job: Job, threads: int, gpu: bool) -> Crew:
        """Return a crew for a job, with so many threads to a worker, and a GPU each where the model is on one."""


@dataclass
class Spawn:
    """Processes of this machine; implements ``Executor``. On a machine with GPUs they take these in turn.

    Attributes:
        workers: how many.
        threads: of each; ``None``: this process's, shared out.
        model: what they load the base model by; ``None``: as this process did.
    """

    workers: int = WORKERS
    threads: int | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(workers=self.workers, threads=self.threads)

    def crew(self, job: Job, threads: int, gpu: bool) -> Crew:
        """Return a crew of processes.

        Raises:
            MeloEditError: where processes cannot be given a pipe.
        """
        if os.name != "posix":
            raise MeloEditError("executor spawn needs Linux or macOS: take executor ray, or none")
        return Crew(SpawnBackend(job, threads, _gpus() if gpu else ()), self.workers)


@dataclass
class Ray:
    """Actors of a Ray cluster; implements ``Executor``. It needs the extra ``ray``.

    Attributes:
        workers: how many.
        address: of the cluster; ``None``: that of ``RAY_ADDRESS``, or the one that runs here; ``local``: one of its
            own, for this call.
        threads: of each, and as many CPUs are asked for; ``None``: this process's, shared out.
        model: what they load the base model by; ``None``: as this process did. Every node must find it by that.
    """

    workers: int = WORKERS
    address: str | None = None
    threads: int | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(workers=self.workers, threads=self.threads)

    def crew(self, job: Job, threads: int, gpu: bool) -> Crew:
        """Return a crew of actors.

        Raises:
            MeloEditError: if Ray is not installed, of another version, or no cluster is there.
        """
        from .ray_actors import RayBackend

        return Crew(RayBackend(job, threads, gpu, self.address), self.workers)


def executor_of(
    executor: str | Executor | None, workers: int | None = None, address: str | None = None, model: str | None = None
) -> Executor | None:
    """Return the executor that a caller names or gives; ``None``: this process does the work.

    Raises:
        MeloEditError: if there is none of that name, or an option does not go with it.
    """
    if executor is not None and not isinstance(executor, str):
        if not hasattr(executor, "crew"):
            raise ArgumentError(f"executor must be local, spawn, ray, a Spawn or a Ray, not {shown(executor)}")
        return executor
    name = executor or "local"
    if name not in ("local", "spawn", "ray"):
        raise MeloEditError(f"no executor {name!r}; there are: local, spawn, ray")
    if address is not None and name != "ray":
        raise MeloEditError("an address (--address) goes with executor ray (--executor ray)")
    if name == "local":
        if workers is not None:
            raise MeloEditError("workers (--workers) go with executor spawn or ray (--executor spawn)")
        return None
    count = WORKERS if workers is None else workers
    return Spawn(count, model=model) if name == "spawn" else Ray(count, address, model=model)


def part_trainer(
    executor: str | Executor | None, engine: Engine, source: str | None, open_engine: OpenEngine
) -> PartTrainer | None:
    """Return what trains the parts of an edit run; ``None``: this process.

    Args:
        executor: what the caller chose.
        engine: the model and its store.
        source: what the model was loaded by, as far as is known.
        open_engine: makes a worker's engine, see ``TrainingJob``.
    """
    chosen = executor_of(executor)
    if chosen is None:
        return None
    threads = threads_of(chosen)
    job = TrainingJob.of(engine, loaded_by(engine, chosen.model, source), threads, open_engine)
    return CrewTrainer(chosen.crew(job, threads, engine.backbone.model.device.type == "cuda"), engine.modules)


def threads_of(executor: Executor) -> int:
    """Return how many threads a worker has: by default this process's, shared out."""
    import torch

    return executor.threads or max(1, torch.get_num_threads() // executor.workers)


def check_counts(**counts: int | None) -> None:
    """Refuse what is no count.

    Raises:
        MeloEditError: naming it.
    """
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise MeloEditError(f"{name} must be a positive whole number, not {count!r}")


def _gpus() -> tuple[str, ...]:
    """Return the GPUs that this process sees, as the environment numbers them."""
    import torch

    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()) != "":
        return tuple(visible.split(","))
    return tuple(map(str, range(torch.cuda.device_count())))
