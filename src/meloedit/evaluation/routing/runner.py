"""``meloedit eval --routing``: which edit a prompt would reach, measured without training a block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...edit import prompt_text
from ...errors import MeloEditError
from ...methods.none import Unedited
from ...text import counted
from ..metrics.estimates import Estimate
from ..metrics.routing_scores import Measured, Negatives
from ..metrics.scores import by_edit, ready
from ..run.observe import Observation
from ..run.previous import Former
from ..run.prompts import Ask, Set, item_asks, other_asks
from ..run.provenance import provenance
from ..run.selection import check_model, choose
from ..tasks.prefixes import PREFIXES, prefixed
from .retrievers import FINDERS, Finder, Found

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...edit import Edit
    from ...types import Progress
    from ..run.folder import RunFolder
    from ..run.plan import Plan
    from ..tasks.task import Task

NOTE = "routing: no block is trained; every prompt is routed to the nearest of all edits"
FAR, NEAR = {"0.5pct": 0.005, "1pct": 0.01}, {"2pct": 0.02, "5pct": 0.05}
"""Shares of far and of near prompts that are let through."""


class RoutingRunner:
    """Measures routes as a plan says.

    Args:
        plan: what to do; its protocol is ``routing``.
        distractors: edits that are held beside the task's, and not scored.
        folder: where the figures go.
        load: loads the model and its tokenizer.
        tell: told what is being done.
    """

    def __init__(
        self,
        plan: Plan,
        distractors: Sequence[Edit],
        folder: RunFolder,
        load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        tell: Progress,
    ) -> None:
        self.plan, self.folder, self._tell = plan, folder, tell
        self.base = Unedited(*load())
        check_model(plan.task, self.base.backbone)
        task, _ = choose(plan, self.base, self._said, tell)
        self.task, self.mentioned = _without_subjects(task)
        own = {text.casefold() for item in task.items for text in _texts(item.edit)}
        subjects = {item.subject.casefold() for item in task.items if item.subject}
        self.others = [edit for edit in distractors if not own & {text.casefold() for text in _texts(edit)}]
        self.others = [
            replace(edit, id=f"distractor-{i}")  # two files may use the same ids
            for i, edit in enumerate(self.others)
            if str(edit.metadata.get("subject", "")).casefold() not in subjects
        ]
        self.asks = item_asks(self.task.items) | other_asks(self.task, plan.limit)
        self.found: dict[str, Any] = {}
        self.former = Former.of(folder, self.base.backbone.fingerprint())
        for name, settings in plan.methods.items():
            if (held := self.former.settings.get(name)) is not None and held != dict(settings):
                raise MeloEditError(f"{folder.path} holds figures of {name} with settings {held}: choose another --out")

    def _said(self, prompts: Sequence[Any], longest: int) -> list[str]:
        return [said.text for said in self.base.answer(prompts, longest)]

    def run(self) -> dict[str, Any]:
        """Measure every method; return the result, which is written after each of them."""
        for name, settings in self.plan.methods.items():
            finder = FINDERS[name](self.base, settings, self._tell)
            try:
                rows, own = self._measure(finder)
            finally:
                finder.close()
            self.found[name] = ready(own)
            self.folder.write_observations(name, rows)
            self.folder.write_result(self.result(name == list(self.plan.methods)[-1]))
        return self.result(True)

    def result(self, finished: bool) -> dict[str, Any]:
        """Return the figures so far, those of methods that an earlier command finished too."""
        plan, task = self.plan, self.task
        asked = {"settings": {name: dict(own) for name, own in plan.methods.items()}, **plan.identity()}
        told = provenance() | {"fingerprint": self.base.backbone.fingerprint(), "cleaning": dict(task.cleaning)}
        notes = [NOTE, f"scored: {counted(len(task.items), 'edit')}; held beside them: {len(self.others):,} more"]
        if self.mentioned:
            notes.append(f"left out: {counted(self.mentioned, 'far prompt')} with the subject of an edit")
        result = {
            "protocol": plan.protocol,
            "task": task.name,
            "model": plan.model,
            "data": [dict(item) for item in task.files],
            "edits": len(task.items),
            "distractors": len(self.others),
            "provenance": told | {"configuration": asked},
            "methods": self.found,
            "notes": notes,
            "finished": finished,
        }
        return self.former.joined(result, plan.methods)

    def _measure(self, finder: Finder) -> tuple[list[Observation], dict[str, Estimate]]:
        edits = [item.edit for item in self.task.items] + self.others
        finder.learn(edits)
        sets: dict[str, _Asked] = {
            name: _Asked(asks, finder.find([ask.prompt for ask in asks])) for name, asks in self.asks.items()
        }
        found = _figures(sets, finder.threshold)
        for name in PREFIXES if self.plan.prefixes else ():
            found |= self._behind(name, finder, sets)
        rows = [row for asked in sets.values() for row in asked.rows(edits, finder.threshold)]
        return rows, found

    def _behind(self, name: str, finder: Finder, plain: Mapping[str, _Asked]) -> dict[str, Estimate]:
        """Return figures of prompts behind a prefix; the thresholds are those of prompts without one."""
        chat = self.base.backbone.markers is not None
        sets: dict[str, _Asked] = {}
        names: tuple[Set, ...] = ("edits", "rephrases", "near", "far")
        for set_ in names:
            if asks := [replace(ask, prompt=prefixed(name, ask.prompt, chat)) for ask in self.asks.get(set_, ())]:
                sets[set_] = _Asked(asks, finder.find([ask.prompt for ask in asks]))
        negatives = {set_: plain[set_] for set_ in ("near", "far") if set_ in plain}
        own = _figures(sets | negatives, finder.threshold)
        own |= {k: v for k, v in _figures(sets, finder.threshold).items() if k.startswith("activation")}
        return {f"{metric}@{name}": value for metric, value in own.items() if "@" not in metric}


@dataclass
class _Asked:
    """Prompts of a set, and what was found for them."""

    asks: Sequence[Ask]
    found: Found

    def __post_init__(self) -> None:
        self.owner, self.distance = self.found.owner.tolist(), self.found.distance.tolist()

    @property
    def right(self) -> list[bool]:
        """Whether the nearest edit is a prompt's own."""
        return [owner == ask.item for owner, ask in zip(self.owner, self.asks, strict=True)]

    def share(self, hits: Sequence[bool], kept: Callable[[Ask], bool] = lambda ask: True) -> Estimate | None:
        """Return a share over prompts with its interval over edits."""
        rows = [{"item": ask.item, "hit": hit} for ask, hit in zip(self.asks, hits, strict=True) if kept(ask)]
        return by_edit(rows, lambda row: float(row["hit"]))

    def measured(self, kept: Callable[[Ask], bool] = lambda ask: True) -> Measured | None:
        """Return what the prompts' distances say."""
        rows = [i for i, ask in enumerate(self.asks) if kept(ask)]
        right = self.right
        if not rows:
            return None
        return Measured([self.distance[i] for i in rows], [right[i] for i in rows], [self.asks[i].item for i in rows])

    def rows(self, edits: Sequence[Edit], threshold: float | None) -> list[Observation]:
        """Return observations as other runs have them."""
        made = []
        for ask, owner, distance, right in zip(self.asks, self.owner, self.distance, self.right, strict=True):
            fires = threshold is not None and distance < threshold
            routed = "none" if not fires else "right" if right and not ask.kept else "wrong"
            row = {"set": ask.set, "item": ask.item, "k": ask.k, "prompt": prompt_text(ask.prompt), "kind": ask.kind}
            nearest = edits[owner].id if owner >= 0 else None
            row |= {"wanted": ask.edit, "nearest": nearest, "route": nearest if fires else None}
            row["routed"] = None if threshold is None else routed  # without a scope nothing is in it or out of it
            made.append(row | {"distance": distance, "threshold": threshold})
        return made


def _figures(sets: Mapping[str, _Asked], threshold: float | None) -> dict[str, Estimate]:
    found: dict[str, Estimate | None] = {}
    if (asked := sets.get("rephrases")) is not None:
        parts: dict[str, Callable[[Ask], bool]] = {"": lambda ask: True}
        if any(ask.k for ask in asked.asks):
            parts |= {"@first": lambda ask: ask.k == 0, "@others": lambda ask: ask.k > 0}
        for part, kept in parts.items():
            found[f"right_edit{part}"] = asked.share(asked.right, kept)
            found |= {f"{name}{part}": value for name, value in _against(asked.measured(kept), sets).items()}
        found["wrong_edit"] = asked.share([not right for right in asked.right])
    if threshold is not None:
        found |= _at(sets, threshold)
    return {name: value for name, value in found.items() if value is not None}


def _against(measured: Measured | None, sets: Mapping[str, _Asked]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for name, shares in (("far", FAR), ("near", NEAR), ("attribute", NEAR)):
        if measured is not None and name in sets:
            negatives = Negatives(sets[name].distance, [ask.item for ask in sets[name].asks])
            found |= {f"coverage_{name}_{s}": measured.covered(negatives, shares[s]) for s in shares}
            found[f"auc_{name}"] = measured.auc(negatives)
    return found


def _at(sets: Mapping[str, _Asked], threshold: float) -> dict[str, Estimate | None]:
    """Return what happens at the default threshold."""
    found: dict[str, Estimate | None] = {}
    fires = {name: [distance < threshold for distance in asked.distance] for name, asked in sets.items()}
    for name in ("edits", "rephrases"):
        if name in sets:
            pairs = list(zip(fires[name], sets[name].right, strict=True))
            found[f"right_block_{name}"] = sets[name].share([fired and right for fired, right in pairs])
            found[f"wrong_block_{name}"] = sets[name].share([fired and not right for fired, right in pairs])
    for name in ("near", "attribute", "far"):
        if name in sets:
            found[f"activation_{name}"] = sets[name].share(fires[name])
    if "far" in sets:
        for kind in sorted({ask.kind or "" for ask in sets["far"].asks}):
            own = sets["far"].share(fires["far"], lambda ask, kind=kind: ask.kind == kind)  # type: ignore[misc]
            found[f"activation_far@{kind.replace(' ', '_')}"] = own
    return found


def _texts(edit: Edit) -> list[str]:
    return [prompt_text(prompt) for prompt in edit.prompts]


def _without_subjects(task: Task) -> tuple[Task, int]:
    """Leave out far prompts that name the subject of an edit: nothing says that they are far."""
    subjects = {item.subject.casefold() for item in task.items if item.subject and len(item.subject) > 2}
    if not subjects:
        return task, 0
    named = re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, subjects), key=len, reverse=True)) + r")\b")
    kept = tuple(far for far in task.far if not named.search(far.prompt.casefold()))
    return replace(task, far=kept), len(task.far) - len(kept)
