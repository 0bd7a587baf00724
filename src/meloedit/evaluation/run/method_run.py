"""One method of a run, the unit of work: it makes the edits in parts and scores them when the protocol asks for it.

It depends on plan, method name and folder alone, and continues after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from ...errors import MeloEditError
from ...files import file_sha256, json_hash
from ...methods import METHODS, method_class, removal_of
from ...methods.third_party import package_of
from ..metrics.scores import to_json
from ..tasks.prefixes import PREFIXES, prefixed
from .context import CHUNK
from .costs import COSTS, Cost, answer_time, editing_speed
from .folder import EditingProgress
from .observe import observe
from .prompts import EvalPrompt, PromptSet, item_prompts, other_prompts
from .provenance import peak_gigabytes, reset_peak_memory

if TYPE_CHECKING:
    from ...edit import Edit
    from ...methods.base import Method
    from ..metrics.estimates import Estimate
    from ..metrics.observation import Observation
    from .context import RunContext

TIMED_PROMPTS = 6
"""Prompts of edits whose answers are timed, and far prompts."""


@dataclass(frozen=True)
class MethodResult:
    """A method's results, JSON-ready.

    Attributes:
        figures: each metric with its interval.
        details: further numbers without intervals.
        growth: figures after every so many edits; ``None`` if groups are edited apart.
        silent: by set (near, far): prompts to which the unedited model answers nothing.
    """

    figures: dict[str, Any]
    details: dict[str, Any]
    growth: list[dict[str, Any]] | None
    silent: dict[str, int]


class MethodRun:
    """Runs one method of a plan.

    Args:
        context: what it shares with the plan's other methods.
        name: the method's name.
    """

    def __init__(self, context: RunContext, name: str) -> None:
        self.context, self.name = context, name
        self.plan, self.folder, self.task = context.plan, context.folder, context.task
        self.items = self.task.items
        self.grouped = any(item.group is not None for item in self.items)

    def run(self) -> MethodResult:
        """Make the edits, score them, write the observations.

        Raises:
            MeloEditError: if the folder's state belongs to other settings or cannot be read.
        """
        progress = self._progress()
        before = self.folder.computed, progress.done
        reset_peak_memory()
        method = self._open(progress)
        try:
            method.fit(self._training, self.context.progress)
            rows, growth = (self._edit_groups if self.grouped else self._edit_all)(method, progress)
            figures = self.context.figures(rows, method)
            if self.plan.prefixes and not self.grouped:
                figures |= self._behind_prefixes(method)
            nothing_new = (self.folder.computed, progress.done) == before
            if nothing_new and (previous := self.context.previous.entry("methods", self.name)):
                cost = {metric: previous[metric] for metric in COSTS if metric in previous}
                details = dict(self.context.previous.entry("details", self.name))
            else:
                cost, details = self._cost(method, progress)
            self.folder.write_observations(self.name, rows)
        finally:
            method.close()
        return MethodResult(
            to_json(figures) | cost, details, growth, {set_: _silent(rows, set_) for set_ in ("near", "far")}
        )

    def edited(self) -> Method:
        """Return the method with all edits, to measure something else of it; close it at the end.

        Edits that this folder has already are read.

        Raises:
            MeloEditError: as ``run``; or if the task's edits are made apart from each other.
        """
        if self.grouped:
            raise MeloEditError(f"task {self.task.name}: its edits are made apart from each other, never all at once")
        progress = self._progress()
        method = self._open(progress)
        try:
            method.fit(self._training, self.context.progress)
            for _ in self._made(method, progress):
                pass
        except BaseException:
            method.close()
            raise
        return method

    @property
    def _training(self) -> Sequence[Edit]:
        return self.context.training.get(self.name, [])

    def _progress(self) -> EditingProgress:
        """Return how many edits the folder has, under a hash of everything that they depend on."""
        settings = self.plan.methods[self.name]
        edits = [item.edit.to_dict() for item in self.items]
        source = [self.context.fingerprint, dict(settings), edits, self.plan.task.name]
        files = method_class(self.name).Settings.files
        source += [file_sha256(settings[name]) for name in files if settings.get(name)]
        if self._training:
            source.append([edit.content for edit in self._training])
        return EditingProgress(self.folder.states / self.name, json_hash(source))

    def _open(self, progress: EditingProgress) -> Method:
        return method_class(self.name)(*self.context.load(), self.plan.methods[self.name], progress.folder)

    # -- edits that stay together

    def _made(self, method: Method, progress: EditingProgress) -> Iterator[tuple[int, int]]:
        """Make all edits, from where a killed run stopped; yield the bounds of each part that is made."""
        edits = [item.edit for item in self.items]
        self._restore(method, progress)
        for start, stop in self._parts(method.settings.edits_per_call):
            if stop > progress.done:
                began, processor = time.perf_counter(), time.process_time()
                method.edit(edits[start:stop])
                spent = time.perf_counter() - began, time.process_time() - processor
                progress.advance(stop, method.checkpoint(), *spent)
                self.context.progress(f"{method.name}: editing", stop, len(edits))
            yield start, stop

    def _edit_all(self, method: Method, progress: EditingProgress) -> tuple[list[Observation], list[dict[str, Any]]]:
        """Make all edits, and score them when the protocol asks for it.

        Returns:
            The observations after the last edit (of each part under ``immediate``), and the growth curve.
        """
        count = len(self.items)
        rows: list[Observation] = []
        growth: list[dict[str, Any]] = []
        others = other_prompts(self.task, self.plan.limit)
        for start, stop in self._made(method, progress):
            if self.plan.protocol == "immediate":
                rows += self.context.score(method, f"{stop:06d}", item_prompts(self.items[start:stop], start))
            elif self.plan.every is not None and stop % self.plan.every == 0 and stop < count:
                so_far = self.context.score(method, f"{stop:06d}", item_prompts(self.items[:stop]) | others)
                growth.append({"edits": stop, **to_json(self.context.figures(so_far, method))})
        last = others if self.plan.protocol == "immediate" else item_prompts(self.items) | others
        rows += self.context.score(method, "all", last)
        if growth:
            growth.append({"edits": count, **to_json(self.context.figures(rows, method))})
        return rows, growth

    def _restore(self, method: Method, progress: EditingProgress) -> None:
        """Load the edits made so far; before the first, let the method prepare."""
        if not progress.done:
            method.prepare(self.task.documents)
            return
        try:
            method.restore(progress.state, [item.edit for item in self.items[: progress.done]])
        except MeloEditError as error:
            advice = f"remove {progress.folder}, and the edits are made anew"
            raise MeloEditError(f"the edits made so far cannot be read ({error}): {advice}") from None

    def _parts(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the bounds of the edits given at once: at most ``size``, none across a point of the growth curve."""
        start, every = 0, self.plan.every or len(self.items)
        while start < len(self.items):
            stop = min(start + size, len(self.items), (start // every + 1) * every)
            yield start, stop
            start = stop

    # -- groups that are edited apart

    def _edit_groups(self, method: Method, progress: EditingProgress) -> tuple[list[Observation], None]:
        """Make the edits of each group alone, score them, and reset the model; there is no growth curve."""
        groups: dict[int | None, list[int]] = {}
        for i, item in enumerate(self.items):
            groups.setdefault(item.group, []).append(i)
        asked: dict[int | None, list[EvalPrompt]] = {}
        for group, numbers in groups.items():
            sets = item_prompts([self.items[i] for i in numbers], numbers[0])
            asked[group] = [prompt for set_, prompts in sets.items() if self.context.scores(set_) for prompt in prompts]
        known = self._answers_before(asked)
        method.prepare(self.task.documents)
        rows: list[Observation] = []
        for done, (group, numbers) in enumerate(groups.items(), 1):
            edits, prompts = [self.items[i].edit for i in numbers], asked[group]

            def compute(
                group: int | None = group, edits: Sequence[Edit] = edits, prompts: Sequence[EvalPrompt] = prompts
            ) -> list[Observation]:
                method.reset()
                began, processor = time.perf_counter(), time.process_time()
                method.edit(edits)
                spent = time.perf_counter() - began, time.process_time() - processor
                progress.advance(progress.done + len(edits), {}, *spent)
                near = [i for i, one in enumerate(prompts) if not one.answers]
                base = {i: known[group, i] for i, one in enumerate(prompts) if one.answers}
                if near:
                    texts = self.context.base_answers([prompts[i].prompt for i in near], self.context.max_tokens)
                    base |= dict(zip(near, texts, strict=True))
                forced = self.plan.protocol == "teacher-forced"
                return observe(method, self.context.base, prompts, base, self.context.max_tokens, not forced, forced)

            rows += self.folder.part(f"{method.name}/groups/{group}", len(prompts), compute)
            self.context.progress(f"{method.name}: cases", done, len(groups))
        return rows, None

    def _answers_before(self, asked: Mapping[int | None, Sequence[EvalPrompt]]) -> dict[tuple[int | None, int], str]:
        """Return the unedited model's answers to prompts that have right answers of their own, by group and number.

        They are shown beside the method's, and batches across groups take less time. Prompts that must stay as they are
        remain in the batches of their group: the method answers them in the same ones, so that rounding cannot differ.
        """
        places = [(group, i) for group, prompts in asked.items() for i, one in enumerate(prompts) if one.answers]
        known: dict[tuple[int | None, int], str] = {}
        for start in range(0, len(places), CHUNK):
            part = places[start : start + CHUNK]
            texts = self.context.base_answers([asked[group][i].prompt for group, i in part], self.context.max_tokens)
            known |= dict(zip(part, texts, strict=True))
            self.context.progress("the unedited model's answers", start + len(part), len(places))
        return known

    # -- cost and prefixes

    def _cost(self, method: Method, progress: EditingProgress) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the figures of cost, and details; of groups that are edited apart only processor time and memory."""
        cost = Cost()
        if method.name != "none" and self.grouped and progress.parts:
            # The first group has what a method makes once, such as statistics: the median leaves it out.
            spent = [part["processor"] / part["edits"] for part in progress.parts]
            cost.details["processor_seconds_per_edit"] = round(median(spent), 3)
            cost.details["processor_seconds_editing"] = round(sum(part["processor"] for part in progress.parts), 1)
        if method.name != "none" and not self.grouped:
            size, count = method.size(), len(self.items)
            cost.exact("parameters_per_edit", size.parameters / count, count)
            cost.exact("bytes_per_edit", size.nbytes / count, count)
            cost.figures["edits_per_minute"] = editing_speed(progress.parts)
            cost.details["processor_seconds_editing"] = round(sum(part["processor"] for part in progress.parts), 1)
        if self.task.kind == "question" and not self.grouped:
            prompts = [item.edit.prompt for item in self.items[:TIMED_PROMPTS]]
            prompts += [far.prompt for far in self.task.far[:TIMED_PROMPTS]]
            told = self.context.progress
            timed = progress.answer_time(lambda: answer_time(method, self.context.base, prompts, told))
            cost.figures["answer_time_ratio"] = timed
        about: dict[str, Any] = {"removal": removal_of(type(method)), "peak_gigabytes": peak_gigabytes()}
        if self.name not in METHODS:
            about["package"] = package_of(self.name)
        return to_json(cost.figures), cost.details | method.details() | about

    def _behind_prefixes(self, method: Method) -> dict[str, Estimate]:
        """Score edits, one rephrasing each, and far prompts behind every prefix; names end in ``@PREFIX``."""
        chat = self.context.base.backbone.markers is not None
        sets = item_prompts(self.items) | other_prompts(self.task, self.plan.limit)
        names: tuple[PromptSet, ...] = ("edits", "rephrases", "far")
        figures: dict[str, Estimate] = {}
        for name in PREFIXES:
            behind = {
                set_: [
                    replace(one, prompt=prefixed(name, one.prompt, chat))
                    for one in sets[set_]
                    if set_ == "far" or one.k == 0
                ]
                for set_ in names
                if set_ in sets
            }
            rows = self.context.score(method, f"behind-{name}", behind)
            measured = self.context.figures(rows, method)
            figures |= {f"{metric}@{name}": value for metric, value in measured.items() if "@" not in metric}
        return figures


def _silent(rows: Sequence[Observation], name: str) -> int:
    """Return the number of a set's prompts to which the unedited model answers nothing."""
    return sum(row["set"] == name and (base := row["base"]) is not None and not base.strip() for row in rows)
