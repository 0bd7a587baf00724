"""The methods of a run by workers: each loads the unedited model once, and runs whole methods.

The folder is what they share. A method's parts and states have its name, and a file is written whole or not at all; so
a method whose worker died goes on, in another worker, where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import MeloEditError
from ...workers.crew import Lost, Refused
from ...workers.executors import threads_of
from .method_run import MethodRun

if TYPE_CHECKING:
    from ...workers.crew import Do
    from ...workers.executors import Executor
    from .context import LoadModel, RunContext
    from .folder import RunFolder
    from .method_run import MethodResult
    from .plan import RunPlan


def silent(step: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class MethodJob:
    """Run methods of a plan.

    Attributes:
        plan: the plan.
        folder: the run's folder.
        load: loads a fresh model and its tokenizer.
        threads: threads of a worker.
    """

    plan: RunPlan
    folder: RunFolder
    load: LoadModel
    threads: int

    def open(self) -> Do:
        """Load the unedited model, and return what runs a method, given its name."""
        import torch

        from .context import RunContext

        torch.set_num_threads(self.threads)
        context = RunContext(self.plan, self.folder, self.load, silent)
        return lambda name, tell: MethodRun(context, name).run()


def worked_results(context: RunContext, executor: Executor) -> Iterator[tuple[str, MethodResult]]:
    """Yield the name and the result of each method, in the order of the plan.

    Raises:
        MeloEditError: what a method raises; or, after all others, if the workers of one were lost.
    """
    names, threads, lost = list(context.plan.methods), threads_of(executor), ""
    job = MethodJob(context.plan, context.folder, context.load, threads)
    crew = executor.crew(job, threads, context.base.model.device.type == "cuda")
    with closing(crew.run(names)) as outcomes:
        for done, (name, outcome) in enumerate(zip(names, outcomes, strict=True), 1):
            if isinstance(outcome, Refused):
                raise outcome.error
            if isinstance(outcome, Lost):
                lost = lost or f"method {name}: the workers that ran it were lost, the last one: {outcome.reason}"
            else:
                yield name, outcome.result
            context.progress("methods", done, len(names))
    if lost:
        raise MeloEditError(f"{lost}; the same command does what is left")
