"""Trial: an edit is asked its likely neighbours before it goes live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..edit import prompt_text
from ..judging.wording import spoken
from ..results import Trial, TriedNeighbour
from ..routing.verifier import Candidate, Verifier, Wordings, asked, probability
from .neighbourhood import Made, shipped

if TYPE_CHECKING:
    from ..edit import Edit
    from ..routing.nearest import NearestPolicy

NEIGHBOURS = 16
"""Neighbours that an edit is asked."""
CHANGED = ("opposite", "number", "negation", "qualifier", "other name")
"""Kinds of neighbours that differ from the edit for sure, since one thing of its words was changed: these are kept
quiet where they would fire. Questions that were written beside others may ask the same by chance."""


class Trials:
    """Tries edits with the judge of a policy.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: NearestPolicy) -> None:
        self._policy, self._neighbourhood = policy, shipped()

    def of(self, edits: Sequence[Edit]) -> list[Trial]:
        """Return what became of each edit's neighbours; without a judge none are asked."""
        verifier, scope = self._policy.verifier, self._policy.scope
        if verifier is None or scope is None:
            return [Trial(edit.id) for edit in edits]
        made = [self._made(edit) for edit in edits]
        pairs = [(one, number) for number, neighbours in enumerate(made) for one in neighbours]
        asking = Verifier(verifier.judge, lambda number: Wordings.of(edits[number]))
        scored = asking.score(
            [asked(one.prompt) for one, _ in pairs], [[Candidate(number, 0.0)] for _, number in pairs]
        )
        tried: list[list[TriedNeighbour]] = [[] for _ in edits]
        for (one, number), (candidate,) in zip(pairs, scored, strict=True):
            fires = candidate.score > scope.least and not candidate.silenced
            if candidate.score <= verifier.judge.greatest_near or one.kind in CHANGED:  # else it asks the same
                tried[number].append(TriedNeighbour(one.prompt, one.kind, probability(candidate.score), fires))
        return [
            Trial(edit.id, sorted(neighbours, key=lambda one: -one.score), _silenced(neighbours))
            for edit, neighbours in zip(edits, tried, strict=True)
        ]

    def _made(self, edit: Edit) -> list[Made]:
        own = {spoken(prompt_text(prompt)) for prompt in (*edit.prompts, *edit.quiet)}
        made = self._neighbourhood.made(prompt_text(edit.prompt), NEIGHBOURS + len(own))
        return [one for one in made if spoken(one.prompt) not in own][:NEIGHBOURS]


def _silenced(neighbours: Iterable[TriedNeighbour]) -> list[str]:
    return [one.prompt for one in neighbours if one.fires and one.kind in CHANGED]
