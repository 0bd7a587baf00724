"""Routing of pairs: an edit of one prompt, alone in the index, is asked with the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ...edit import prompt_key
from ...errors import EditError
from ...text import counted
from ..metrics.by_edit import by_item
from ..metrics.routing_scores import EditDistances, Negatives
from ..run.prompts import EvalPrompt, PromptSet, item_prompts
from .retriever import Nearest
from .routed_set import RoutedSet
from .runner import RoutingRunner

if TYPE_CHECKING:
    from ..metrics.estimates import Estimate
    from ..metrics.observation import Observation
    from .retriever import Retriever

NOTE = "pairs: no block is trained; the edit of each pair is alone in the index when the pair's other prompt is routed"
SHARES = {"2pct": 0.02, "5pct": 0.05}
"""Shares of traps that may pass, at which the hits that reach their edit are counted."""


class PairsRunner(RoutingRunner):
    """Measures the pairs of a plan's task: *hits*, which ask the same, and *traps*, which do not.

    Rows of ``edits`` are the prompts of the edits, of ``rephrases`` the hits and of ``near`` the traps. Pairs with the
    same edit prompt count as one edit where intervals draw edits.
    """

    def _notes(self) -> list[str]:
        return [NOTE, f"scored: {counted(len(self.task.items), 'pair')}"]

    def _sets(self) -> Mapping[PromptSet, Sequence[EvalPrompt]]:
        """Return the second prompts of pairs, ``rephrases`` or ``near``."""
        return {name: prompts for name, prompts in item_prompts(self.task.items).items() if name != "edits"}

    def _measure(self, retriever: Retriever) -> tuple[list[Observation], dict[str, Estimate]]:
        edits = [item.edit for item in self.task.items]
        asked = [one for prompts in self.sets.values() for one in prompts]
        if not asked:
            raise EditError("task pairs: no pair is left that the model can read")
        found = retriever.search_pairs([edits[one.item] for one in asked], [one.prompt for one in asked])
        thresholds = None if found.threshold is None else found.threshold.tolist()
        of_pair = [one.item if place >= 0 else -1 for place, one in zip(found.owner.tolist(), asked, strict=True)]
        routed = RoutedSet(asked, Nearest(torch.tensor(of_pair), found.distance))
        firsts: dict[str, int] = {}
        of_prompt = [firsts.setdefault(prompt_key(edit.prompt), i) for i, edit in enumerate(edits)]
        grouped = [replace(one, item=of_prompt[one.item]) for one in asked]
        judged = None if found.judged is None else RoutedSet(grouped, Nearest(found.owner.clamp(min=0), found.judged))
        return routed.observations(edits, thresholds), pair_figures(RoutedSet(grouped, found), thresholds, judged)


def pair_figures(
    pairs: RoutedSet, thresholds: Sequence[float] | None, judged: RoutedSet | None = None
) -> dict[str, Estimate]:
    """Return the figures of pairs by name, of all and of each category (``auc@negation``).

    ``auc`` is the chance that a hit lies nearer to its edit than a trap; ``coverage_traps_5pct`` the share of hits that
    lie nearer than all but 5 % of traps; ``hits`` and ``traps`` the shares that fire at the method's thresholds. A
    category that has hits alone is held against all traps, one that has traps alone against all hits.

    Args:
        pairs: the second prompt of each pair, with the distance to the pair's edit; the kind is the category.
        thresholds: for each pair the distance below which its edit fires; ``None`` if the method has no scope.
        judged: the same prompts with the judge's distance; ``None`` if none judges.
    """
    figures: dict[str, Estimate] = {}
    rows = range(len(pairs.prompts))
    hits, traps = ([i for i in rows if pairs.prompts[i].unedited is other] for other in (False, True))
    categories = sorted({one.kind for one in pairs.prompts if one.kind is not None})
    for category in (None, *categories):
        end = "" if category is None else "@" + re.sub(r"\W+", "_", category).strip("_")
        own_hits, own_traps = (
            [i for i in part if category is None or pairs.prompts[i].kind == category] for part in (hits, traps)
        )
        told = own_hits or hits, own_traps or traps
        figures |= {f"{name}{end}": value for name, value in _apart(pairs, *told).items()}
        if judged is not None and "auc" in (by_judge := _apart(judged, *told)):
            figures[f"auc_judge{end}"] = by_judge["auc"]
        for name, own in (("hits", own_hits), ("traps", own_traps)):
            if thresholds is None:
                break
            share = by_item((pairs.prompts[i].item, float(pairs.distance[i] < thresholds[i])) for i in own)
            if share is not None:
                figures[f"{name}{end}"] = share
    return figures


def _apart(pairs: RoutedSet, hits: Sequence[int], traps: Sequence[int]) -> dict[str, Estimate]:
    """Return how well hits are told from traps; nothing if one of them is empty."""
    if not hits or not traps:
        return {}
    reaches = [pairs.owner[i] >= 0 for i in hits]
    distances = EditDistances([pairs.distance[i] for i in hits], reaches, [pairs.prompts[i].item for i in hits])
    negatives = Negatives([pairs.distance[i] for i in traps], [pairs.prompts[i].item for i in traps])
    found = distances.against(negatives, list(SHARES.values()))
    figures = {f"coverage_traps_{name}": value for name, value in zip(SHARES, found.coverage, strict=True)}
    return {"auc": found.auc, **figures}
