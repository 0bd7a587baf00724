"""The runner of ``meloedit eval --routing``: routes a task's prompts to the nearest edit, without training a block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...edit import prompt_text
from ...errors import MeloEditError
from ...methods.none import Unedited
from ...text import counted
from ..metrics.scope_scores import reach_figures
from ..metrics.scores import to_json
from ..run.previous import PreviousResult, make_result
from ..run.prompts import EvalPrompt, PromptSet, item_prompts, other_prompts
from ..run.selection import check_model, left_out_notes, select
from ..tasks.far import UNRELATED
from ..tasks.prefixes import PREFIXES, prefixed
from .retriever import Retriever
from .retrievers import RETRIEVERS
from .routed_set import RoutedSet, routing_figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...edit import Edit
    from ...types import Progress
    from ..metrics.estimates import Estimate
    from ..metrics.observation import Observation
    from ..run.context import LoadModel
    from ..run.folder import RunFolder
    from ..run.plan import RunPlan
    from ..tasks.task import Task

NOTE = "routing: no block is trained; every prompt is routed to the nearest of all edits"


class RoutingRunner:
    """Measures the routes of a plan's methods.

    Args:
        plan: the plan; its protocol is ``routing``.
        distractors: edits that compete with the task's and are not scored. Those that share a prompt or subject with
            an edit of the task are left out.
        folder: the run's folder.
        load: loads the model and its tokenizer.
        progress: called with what is being done, how much is done, and how much there is.

    Raises:
        MeloEditError: if the task does not fit the model, or the folder has figures of a method's other settings.
    """

    def __init__(
        self, plan: RunPlan, distractors: Sequence[Edit], folder: RunFolder, load: LoadModel, progress: Progress
    ) -> None:
        self.plan, self.folder, self._progress = plan, folder, progress
        self.base = Unedited(*load())
        check_model(plan.task, self.base.backbone)
        task, _ = select(plan, self.base, self._base_answers, progress)
        self.task, self.left_out = _without_subjects(task)
        self.distractors = _distinct_distractors(distractors, task)
        self.sets: Mapping[PromptSet, Sequence[EvalPrompt]] = self._sets()
        self.figures: dict[str, Any] = {}
        self.previous = PreviousResult.read(folder, self.base.backbone.fingerprint())
        for name, settings in plan.methods.items():
            stored = self.previous.settings.get(name)
            if stored is not None and stored != dict(settings):
                raise MeloEditError(
                    f"{folder.path} holds figures of {name} with settings {stored}: choose another --out"
                )

    def _sets(self) -> Mapping[PromptSet, Sequence[EvalPrompt]]:
        """Return the prompts to route, by set."""
        return item_prompts(self.task.items) | other_prompts(self.task, self.plan.limit)

    def _base_answers(self, prompts: Sequence[Any], max_tokens: int) -> list[str]:
        return [answer.text for answer in self.base.answer(prompts, max_tokens)]

    def run(self) -> dict[str, Any]:
        """Measure every method; return the result, which is written after each of them."""
        for name, settings in self.plan.methods.items():
            retriever = RETRIEVERS[name](self.base, settings, self._progress)
            try:
                rows, figures = self._measure(retriever)
            finally:
                retriever.close()
            self.figures[name] = to_json(figures)
            self.folder.write_observations(name, rows)
            self.folder.write_result(self.result(name == list(self.plan.methods)[-1]))
        return self.result(True)

    def result(self, finished: bool) -> dict[str, Any]:
        """Return the figures so far, with those of methods that an earlier command finished."""
        number = len(self.distractors)
        notes = self._notes()
        if self.left_out:
            notes.append(f"left out: {counted(self.left_out, 'far prompt')} with the subject of an edit")
        notes += left_out_notes(self.task)
        fingerprint, tables = self.base.backbone.fingerprint(), {"methods": self.figures}
        result = make_result(self.plan, self.task, fingerprint, tables, notes, finished, distractors=number)
        return self.previous.merged(result, self.plan.methods)

    def _notes(self) -> list[str]:
        number = len(self.distractors)
        return [NOTE, f"scored: {counted(len(self.task.items), 'edit')}; held beside them: {number:,} more"]

    def _measure(self, retriever: Retriever) -> tuple[list[Observation], dict[str, Estimate]]:
        edits = [item.edit for item in self.task.items] + self.distractors
        retriever.add(edits)
        sets: dict[str, RoutedSet] = {
            name: RoutedSet(prompts, retriever.search([one.prompt for one in prompts]))
            for name, prompts in self.sets.items()
        }
        figures = routing_figures(sets, retriever.threshold)
        for name in PREFIXES if self.plan.prefixes else ():
            figures |= self._behind_prefix(name, retriever, sets)
        by_set = {name: routed.observations(edits, retriever.threshold) for name, routed in sets.items()}
        reaching = {name: value for name, value in reach_figures(by_set).items() if value is not None}
        return [row for rows in by_set.values() for row in rows], figures | reaching

    def _behind_prefix(self, name: str, retriever: Retriever, plain: Mapping[str, RoutedSet]) -> dict[str, Estimate]:
        """Return figures of prompts behind a prefix; thresholds of coverage come from negatives without one."""
        chat = self.base.backbone.markers is not None
        names: tuple[PromptSet, ...] = ("edits", "rephrases", "near", "far")
        sets: dict[str, RoutedSet] = {}
        for set_ in names:
            if prompts := [replace(one, prompt=prefixed(name, one.prompt, chat)) for one in self.sets.get(set_, ())]:
                sets[set_] = RoutedSet(prompts, retriever.search([one.prompt for one in prompts]))
        negatives = {set_: plain[set_] for set_ in ("near", "far") if set_ in plain}
        figures = routing_figures(sets | negatives, retriever.threshold)
        behind = routing_figures(sets, retriever.threshold)
        figures |= {metric: value for metric, value in behind.items() if metric.startswith("activation")}
        return {f"{metric}@{name}": value for metric, value in figures.items() if "@" not in metric}


def _distinct_distractors(distractors: Sequence[Edit], task: Task) -> list[Edit]:
    """Return the distractors that share no prompt or subject with an edit of the task, with new ids."""
    texts = {text.casefold() for item in task.items for text in _texts(item.edit)}
    subjects = {item.subject.casefold() for item in task.items if item.subject}
    others = [edit for edit in distractors if not texts & {text.casefold() for text in _texts(edit)}]
    return [
        replace(edit, id=f"distractor-{i}")  # two files may use the same ids
        for i, edit in enumerate(others)
        if str(edit.metadata.get("subject", "")).casefold() not in subjects
    ]


def _texts(edit: Edit) -> list[str]:
    return [prompt_text(prompt) for prompt in edit.prompts]


def _without_subjects(task: Task) -> tuple[Task, int]:
    """Leave out far prompts that name an edit's subject, since they may be near; return how many there were.

    Prompts of the kind ``unrelated`` stay: whoever made their file says that no edit concerns them.
    """
    subjects = {item.subject.casefold() for item in task.items if item.subject and len(item.subject) > 2}
    if not subjects:
        return task, 0
    named = re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, subjects), key=len, reverse=True)) + r")\b")
    far = tuple(
        one for one in task.far if one.kind == UNRELATED or not named.search(prompt_text(one.prompt).casefold())
    )
    return replace(task, far=far), len(task.far) - len(far)
