"""The runner of ``meloedit eval``: runs every method of a plan and writes the result after each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import MeloEditError
from ...methods import method_class
from ...methods.none import Unedited
from ...text import counted
from ..metrics.estimates import without_special
from ..metrics.scores import figures, ready
from ..tasks.prefixes import PREFIXES, prefixed
from .costs import COSTS, Cost, answer_time, editing_speed
from .folder import Progressed, RunFolder, digest
from .observe import Observation, observe
from .plan import PROTOCOLS, Plan
from .previous import Former
from .prompts import Ask, Set, item_asks, other_asks
from .provenance import forget_peak, peak_gigabytes, provenance
from .selection import check_model, choose

if TYPE_CHECKING:
    from ...types import Progress
    from .folder import RunFolder


class Runner:
    """Runs a plan in a folder.

    Args:
        plan: the plan.
        folder: the run's folder.
        load: loads a fresh model and its tokenizer.
        progress: called with what is being done, how much is done, and how much there is.

    Raises:
        MeloEditError: if a method, its settings or the task do not fit the model, or too few edits are left.
    """

    def __init__(self, plan: RunPlan, folder: RunFolder, load: LoadModel, progress: Progress) -> None:
        self.plan, self.folder = plan, folder
        self.context = RunContext(plan, folder, load, progress)
        self.results: dict[str, MethodResult] = {}

    def run(self) -> dict[str, Any]:
        """Run every method; return the result, which is written after each of them."""
        for name in self.plan.methods:
            self.results[name] = MethodRun(self.context, name).run()
            self.folder.write_result(self.result(finished=name == list(self.plan.methods)[-1]))
        return self.result(finished=True)

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
        for fault, noun in (("unwritable", "edit"), ("unreadable", "other prompt")):
            if number := task.cleaning.get(fault):
                why = "more than the model's length or vocabulary holds"
                said.append(f"left out: {counted(number, what)}, {why}")
        for name, number in self.silent.items():
            if number:
                why = "the unedited model answers nothing, and nothing said again counts as kept"
                said.append(f"{counted(number, f'{name} prompt')}: {why}")
        if not self.task.far and self.task.kind == "question":
            said.append("no far prompts were given, so nothing is said of far locality: add a file of NQ or web texts")
        return said

    # -- what is asked

    def _said(self, prompts: Sequence[Prompt], longest: int) -> list[str]:
        """Return what the unedited model answers; asked once for all methods and protocols."""
        name = f"base/{digest([self.fingerprint, list(prompts), longest])}"
        return self.folder.shared(
            name, len(prompts), lambda: [said.text for said in self.base.answer(prompts, longest)]
        )

    def _wanted(self, set_: Set) -> bool:
        return set_ != "attribute" and (self.plan.protocol != "paper" or set_ not in ("near", "portability"))

    def _score(self, method: Method, point: str, asks: Mapping[Set, Sequence[Ask]]) -> list[Observation]:
        """Ask a method what a protocol asks at a point of its editing."""
        protocol, kind = self.plan.protocol, self.task.kind
        rows: list[Observation] = []
        for name, wanted in asks.items():
            if not self._wanted(name):
                continue
            generate = protocol != "teacher-forced" and (kind != "passage" or (name == "edits" and protocol != "paper"))
            likelihood = protocol == "teacher-forced" or kind == "passage"
            for start in range(0, len(wanted), CHUNK):
                part = wanted[start : start + CHUNK]

                def make(part: Sequence[Ask] = part, generate: bool = generate, also: bool = likelihood) -> Any:
                    open_ = [i for i, ask in enumerate(part) if ask.kept and (not ask.answers or kind == "document")]
                    texts = self._said([part[i].prompt for i in open_], self.longest) if open_ else []
                    said = dict(zip(open_, texts, strict=True))
                    return observe(method, self.base, part, said, self.longest, generate, also)

                rows += self.folder.part(f"{method.name}/{point}/{name}-{start:06d}", len(part), make)
                self._tell(f"{method.name}: {name}", min(start + CHUNK, len(wanted)), len(wanted))
        return rows

    # -- one method

    def _method(self, name: str) -> None:
        kind = method_class(name)
        settings = self.plan.methods[name]
        edits = [item.edit for item in self.items]
        depends = [self.fingerprint, dict(settings), [edit.to_dict() for edit in edits], self.plan.task.name]
        progressed = Progressed(self.folder.states / name, digest(depends))
        before = self.folder.made, progressed.done
        forget_peak()
        method = kind(*self._load(), settings, progressed.folder)
        try:
            rows = self._grouped(method) if self._groups() else self._edited(method, progressed)
            own = figures(rows, self.task.kind, self.plan.protocol, method.routes, self._ids)
            if self.plan.prefixes and not self._groups():
                own |= self._behind_prefixes(method)
            self.silent = {set_: _silent(rows, set_) for set_ in ("near", "far")}
            again = (self.folder.made, progressed.done) == before and self.former.of_method("methods", name)
            cost, details = self._former_cost(name) if again else self._cost(method, progressed)
            self.found[name], self.details[name] = ready(own) | cost, details
            self.folder.write_observations(name, rows)
        finally:
            method.close()

    def _parts(self, together: int) -> Iterator[tuple[int, int]]:
        """Yield first and last number of the edits made at once; a part ends where scores are due."""
        start, every = 0, self.plan.every or len(self.items)
        while start < len(self.items):
            stop = min(start + together, len(self.items), (start // every + 1) * every)
            yield start, stop
            start = stop

    def _due(self, stop: int) -> bool:
        every = self.plan.every
        return self.plan.protocol == "immediate" or (every is not None and stop % every == 0 and stop < len(self.items))

    def _edited(self, method: Method, progressed: Progressed) -> list[Observation]:
        """Make all edits, go on where a former run stopped, and score them as the protocol says."""
        edits = [item.edit for item in self.items]
        if progressed.done:
            try:
                method.restore(progressed.held["state"], edits[: progressed.done])
            except MeloEditError as error:
                advice = f"remove {progressed.folder}, and the edits are made anew"
                raise MeloEditError(f"the edits made so far cannot be read ({error}): {advice}") from None
        else:
            method.prepare(self.task.documents)
        rows: list[Observation] = []
        growth = self.growth.setdefault(method.name, [])
        for start, stop in self._parts(method.settings.together):
            if stop > progressed.done:
                began, processor = time.perf_counter(), time.process_time()
                method.edit(edits[start:stop])
                spent = time.perf_counter() - began, time.process_time() - processor
                progressed.note(stop, method.checkpoint(), *spent)
                self._tell(f"{method.name}: editing", stop, len(edits))
            if self.plan.protocol == "immediate":
                rows += self._score(method, f"{stop:06d}", item_asks(self.items[start:stop], start))
            elif self._due(stop):
                so_far = item_asks(self.items[:stop]) | other_asks(self.task, self.plan.limit)
                growth.append(self._point(method, stop, self._score(method, f"{stop:06d}", so_far)))
        last = other_asks(self.task, self.plan.limit)
        if self.plan.protocol != "immediate":
            last = item_asks(self.items) | last
        rows += self._score(method, "all", last)
        if growth:
            growth.append(self._point(method, len(edits), rows))
        return rows

    def _point(self, method: Method, edits: int, rows: Sequence[Observation]) -> dict[str, Any]:
        own = figures(rows, self.task.kind, self.plan.protocol, method.routes, self._ids)
        return {"edits": edits, **ready(own)}

    def _groups(self) -> bool:
        return any(item.group is not None for item in self.items)

    def _grouped(self, method: Method) -> list[Observation]:
        """Edit each group alone, score it, and forget it."""
        numbers: dict[int | None, list[int]] = {}
        for i, item in enumerate(self.items):
            numbers.setdefault(item.group, []).append(i)
        method.prepare(self.task.documents)
        rows: list[Observation] = []
        for done, (group, own) in enumerate(numbers.items(), 1):

            def make(own: Sequence[int] = own) -> list[Observation]:
                method.reset()
                method.edit([self.items[i].edit for i in own])
                asks = item_asks([self.items[i] for i in own], own[0])
                likelihood = self.plan.protocol == "teacher-forced"
                kept = [ask for set_, found in asks.items() if self._wanted(set_) for ask in found]
                said = dict(enumerate(self._said([ask.prompt for ask in kept], self.longest)))
                return observe(method, self.base, kept, said, self.longest, not likelihood, likelihood)

            wanted = item_asks([self.items[i] for i in own])
            count = sum(len(asks) for set_, asks in wanted.items() if self._wanted(set_))
            rows += self.folder.part(f"{method.name}/groups/{group}", count, make)
            self._tell(f"{method.name}: cases", done, len(numbers))
        return rows

    def _former_cost(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a method cost in the command that made its edits and answers: nothing was made since."""
        held, details = self.former.of_method("methods", name), self.former.of_method("details", name)
        return {metric: held[metric] for metric in COSTS if metric in held}, dict(details)

    def _cost(self, method: Method, progressed: Progressed) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return figures of cost and details; of cases that are edited apart the memory alone."""
        cost = Cost()
        if method.name != "none" and not self._groups():
            size, count = method.size(), len(self.items)
            cost.exact("parameters_per_edit", size.parameters / count, count)
            cost.exact("bytes_per_edit", size.nbytes / count, count)
            cost.figures["edits_per_minute"] = editing_speed(progressed.held["parts"])
            cost.details["processor_seconds_editing"] = round(sum(p["processor"] for p in progressed.held["parts"]), 1)
        if self.task.kind == "question" and not self._groups():
            prompts = [item.edit.prompt for item in self.items[:6]] + [far.prompt for far in self.task.far[:6]]
            cost.figures["answer_time_ratio"] = answer_time(method, self.base, prompts, self._tell)
        return ready(cost.figures), cost.details | {"peak_gigabytes": peak_gigabytes()}

    def _behind_prefixes(self, method: Method) -> dict[str, Any]:
        """Score edits, one rephrasing each, and far prompts behind every prefix; names end in ``@PREFIX``."""
        chat = self.base.backbone.markers is not None
        asks = item_asks(self.items) | other_asks(self.task, self.plan.limit)
        found: dict[str, Any] = {}
        for name in PREFIXES:
            behind = {
                set_: [
                    replace(a, prompt=prefixed(name, a.prompt, chat)) for a in asks[set_] if set_ == "far" or a.k == 0
                ]
                for set_ in ("edits", "rephrases", "far")
                if set_ in asks
            }
            rows = self._score(method, f"behind-{name}", behind)  # type: ignore[arg-type]
            own = figures(rows, self.task.kind, self.plan.protocol, method.routes, self._ids)
            found |= {f"{metric}@{name}": value for metric, value in own.items()}
        return found

    def _ids(self, text: str) -> list[int]:
        tokenizer = self.base.backbone.tokenizer
        return without_special(
            tokenizer(text.strip(), add_special_tokens=False)["input_ids"], tokenizer.all_special_ids
        )


def _silent(rows: Sequence[Observation], name: str) -> int:
    """Return to how many prompts of a set the unedited model was asked to answer, and said nothing."""
    return sum(row["set"] == name and row["base"] is not None and not row["base"].strip() for row in rows)
