"""A set of prompts with the nearest edit of each, and the figures of routing that come of such sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..metrics.by_edit import by_item
from ..metrics.routing_scores import EditDistances, Negatives
from ..metrics.scope_scores import WHOLES, languages

if TYPE_CHECKING:
    from ...edit import Edit
    from ..metrics.estimates import Estimate
    from ..metrics.observation import Observation
    from ..run.prompts import EvalPrompt
    from .retriever import Nearest

FAR, NEAR = {"0.5pct": 0.005, "1pct": 0.01}, {"2pct": 0.02, "5pct": 0.05}
"""Shares of far and of near prompts that may pass, at which coverage is measured."""
Filter = Callable[["EvalPrompt"], bool]


def _all(prompt: EvalPrompt) -> bool:
    return True


@dataclass
class RoutedSet:
    """The prompts of a set, and the nearest edit of each."""

    prompts: Sequence[EvalPrompt]
    nearest: Nearest

    def __post_init__(self) -> None:
        self.owner, self.distance = self.nearest.owner.tolist(), self.nearest.distance.tolist()

    @property
    def right(self) -> list[bool]:
        """For each prompt, whether the nearest edit is that of its item."""
        return [owner == one.item for owner, one in zip(self.owner, self.prompts, strict=True)]

    def share(self, hits: Sequence[bool], belongs: Filter = _all) -> Estimate | None:
        """Return the share of hits over the prompts that belong, with its interval over edits."""
        return by_item((one.item, float(hit)) for one, hit in zip(self.prompts, hits, strict=True) if belongs(one))

    def distances(self, belongs: Filter = _all) -> EditDistances | None:
        """Return the distances of the prompts that belong; ``None`` if there are none."""
        rows = [i for i, one in enumerate(self.prompts) if belongs(one)]
        right = self.right
        if not rows:
            return None
        items = [self.prompts[i].item for i in rows]
        return EditDistances([self.distance[i] for i in rows], [right[i] for i in rows], items)

    def observations(self, edits: Sequence[Edit], threshold: float | Sequence[float] | None) -> list[Observation]:
        """Return one observation for each prompt.

        Args:
            edits: the edits by number.
            threshold: the distance below which an edit fires, or that of each prompt; without one ``routed`` is None.
        """
        limits = threshold if isinstance(threshold, Sequence) else [threshold] * len(self.prompts)
        rows = []
        columns = (self.prompts, self.owner, self.distance, self.right, limits)
        for one, owner, distance, right, limit in zip(*columns, strict=True):
            fires = limit is not None and distance < limit
            routed = "none" if not fires else "right" if right and not one.unedited else "wrong"
            nearest = edits[owner].id if owner >= 0 else None
            row = one.observation(one.edit, nearest=nearest, distance=distance, threshold=limit)
            row["route"] = nearest if fires else None
            row["routed"] = None if limit is None else routed  # type: ignore[typeddict-item]
            rows.append(row)
        return rows


def routing_figures(sets: Mapping[str, RoutedSet], threshold: float | None) -> dict[str, Estimate]:
    """Return the figures of routing by name; those at the threshold only if there is one."""
    figures: dict[str, Estimate | None] = {}
    if (rephrases := sets.get("rephrases")) is not None:
        parts: dict[str, Filter] = {"": _all}
        if kinds := kinds_of(rephrases.prompts):
            parts |= {f"@{name.replace(' ', '_')}": belongs for name, belongs in kinds.items()}
        elif any(one.k for one in rephrases.prompts):
            parts |= {"@first": lambda one: one.k == 0, "@others": lambda one: one.k > 0}
        for part, belongs in parts.items():
            figures[f"right_edit{part}"] = rephrases.share(rephrases.right, belongs)
            against = _against_negatives(rephrases.distances(belongs), sets)
            figures |= {f"{name}{part}": value for name, value in against.items()}
        figures["wrong_edit"] = rephrases.share([not right for right in rephrases.right])
        if "near" in sets:
            figures |= _against_kinds(rephrases, sets["near"])
    if threshold is not None:
        figures |= _at_threshold(sets, threshold)
    return {name: value for name, value in figures.items() if value is not None}


def _against_negatives(distances: EditDistances | None, sets: Mapping[str, RoutedSet]) -> dict[str, Estimate]:
    """Return coverage and AUC of rephrasings against each set of negatives."""
    figures: dict[str, Estimate] = {}
    for name, shares in (("far", FAR), ("near", NEAR), ("attribute", NEAR)):
        if distances is not None and name in sets:
            negatives = Negatives(sets[name].distance, [one.item for one in sets[name].prompts])
            found = distances.against(negatives, list(shares.values()))
            figures |= {f"coverage_{name}_{s}": value for s, value in zip(shares, found.coverage, strict=True)}
            figures[f"auc_{name}"] = found.auc
    return figures


def kinds_of(prompts: Sequence[EvalPrompt]) -> dict[str, Filter]:
    """Return filters by kind for prompts that have kinds, those of several kinds that count together first."""
    kinds = dict.fromkeys(one.kind for one in prompts if one.kind is not None)
    wholes = dict.fromkeys(WHOLES[kind] for kind in kinds if kind in WHOLES)
    return {name: _of_kind(name) for name in (*wholes, *kinds)}


def _of_kind(name: str) -> Filter:
    return lambda one: one.kind is not None and name in (one.kind, WHOLES.get(one.kind))


def _speaking(speaks: Callable[[str | None], bool]) -> Filter:
    return lambda one: speaks(one.lang)


def _against_kinds(rephrases: RoutedSet, near: RoutedSet) -> dict[str, Estimate]:
    """Return coverage and AUC of rephrasings against each kind of near prompts, in all languages and apart."""
    figures: dict[str, Estimate] = {}
    for kind, of_kind in kinds_of(near.prompts).items():
        name = kind.replace(" ", "_")
        for part, speaks in languages(one.lang for one in rephrases.prompts).items():
            distances = rephrases.distances(_speaking(speaks))
            rows = [i for i, one in enumerate(near.prompts) if of_kind(one) and speaks(one.lang)]
            if distances is None or not rows:
                continue
            negatives = Negatives([near.distance[i] for i in rows], [near.prompts[i].item for i in rows])
            found = distances.against(negatives, list(NEAR.values()))
            for label, value in zip(NEAR, found.coverage, strict=True):
                figures[f"coverage_{name}_{label}{part}"] = value
            figures[f"auc_{name}{part}"] = found.auc
    return figures


def _at_threshold(sets: Mapping[str, RoutedSet], threshold: float) -> dict[str, Estimate | None]:
    """Return the shares of prompts that reach their edit, another one, or any, at the method's threshold."""
    figures: dict[str, Estimate | None] = {}
    fires = {name: [distance < threshold for distance in routed.distance] for name, routed in sets.items()}
    for name in ("edits", "rephrases"):
        if name in sets:
            pairs = list(zip(fires[name], sets[name].right, strict=True))
            figures[f"right_block_{name}"] = sets[name].share([fired and right for fired, right in pairs])
            figures[f"wrong_block_{name}"] = sets[name].share([fired and not right for fired, right in pairs])
    for name in ("near", "attribute", "far"):
        if name in sets:
            figures[f"activation_{name}"] = sets[name].share(fires[name])
    if "far" in sets:
        for kind in sorted({one.kind or "" for one in sets["far"].prompts}):
            of_kind = sets["far"].share(fires["far"], lambda one, kind=kind: one.kind == kind)  # type: ignore[misc]
            figures[f"activation_far@{kind.replace(' ', '_')}"] = of_kind
    return figures
