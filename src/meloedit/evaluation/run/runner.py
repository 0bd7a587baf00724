"""The runner of ``meloedit eval``: runs every method of a plan and writes the result after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...text import counted
from ..learning import learned_notes
from .context import LoadModel, RunContext
from .method_run import MethodResult, MethodRun
from .plan import PROTOCOLS, RunPlan
from .previous import make_result
from .selection import left_out_notes
from .worked import worked_results

if TYPE_CHECKING:
    from ...types import Progress
    from ...workers.executors import Executor
    from .folder import RunFolder


class Runner:
    """Runs a plan in a folder.

    Args:
        plan: the plan.
        folder: the run's folder.
        load: loads a fresh model and its tokenizer.
        progress: called with what is being done, how much is done, and how much there is.
        executor: whose workers run the methods; ``None``: this process, one after the other.

    Raises:
        MeloEditError: if a method, its settings or the task do not fit the model, or too few edits are left.
    """

    def __init__(
        self,
        plan: RunPlan,
        folder: RunFolder,
        load: LoadModel,
        progress: Progress,
        executor: Executor | None = None,
    ) -> None:
        self.plan, self.folder, self._executor = plan, folder, executor
        self.context = RunContext(plan, folder, load, progress)
        self.results: dict[str, MethodResult] = {}

    def run(self) -> dict[str, Any]:
        """Run every method; return the result, which is written after each of them."""
        for name, result in self._each():
            self.results[name] = result
            self.folder.write_result(self.result(finished=len(self.results) == len(self.plan.methods)))
        return self.result(finished=True)

    def _each(self) -> Iterator[tuple[str, MethodResult]]:
        if self._executor is not None:
            yield from worked_results(self.context, self._executor)
            return
        for name in self.plan.methods:
            yield name, MethodRun(self.context, name).run()

    def result(self, finished: bool) -> dict[str, Any]:
        """Return the figures so far, with those of methods that an earlier command finished."""
        tables: dict[str, dict[str, Any]] = {
            "methods": {name: result.figures for name, result in self.results.items()},
            "growth": {name: result.growth for name, result in self.results.items() if result.growth is not None},
            "details": {name: result.details for name, result in self.results.items()},
        }
        task, fingerprint = self.context.task, self.context.fingerprint
        result = make_result(self.plan, task, fingerprint, tables, self._notes(), finished)
        return self.context.previous.merged(result, self.plan.methods)

    def _notes(self) -> list[str]:
        plan, task = self.plan, self.context.task
        notes = [f"{plan.protocol}: {PROTOCOLS[plan.protocol]}"]
        if task.only_wrong:
            notes.append("edits are those that the unedited model answers wrongly")
        notes += left_out_notes(task)
        last = list(self.results.values())[-1:]
        for set_, number in last[0].silent.items() if last else ():
            if number:
                why = "the unedited model answers nothing, and nothing said again counts as kept"
                notes.append(f"{counted(number, f'{set_} prompt')}: {why}")
        for name, result in self.results.items():
            if found := result.details.get("subjects_found"):
                count = counted(len(found), "edit")
                notes.append(
                    f"{name}: {count} without a subject; the longest name of the prompt is taken for it (details)"
                )
            notes += learned_notes(name, result.details.get("learned", {}))
        if not task.far and task.kind == "question":
            notes.append("no far prompts were given, so nothing is said of far locality: add a file of NQ or web texts")
        return notes
