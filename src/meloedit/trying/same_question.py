"""Same question: which stored edits ask what a new edit asks, in other words.

Two edits ask the same if the judge takes each for the other: the lesser of both scores counts. That is *sure* if no
near pair that was kept back when the judge was trained scores as high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..keys.keys import Keys
from ..routing.verifier import Candidate, Verifier, Wordings, asked

if TYPE_CHECKING:
    from ..edit import Edit
    from ..routing.index import NeuronIndex
    from ..routing.nearest import NearestPolicy
    from ..routing.policy import KeyTensors

PROPOSED = 8
"""Stored edits that are read beside a new one, the nearest ones."""
EDITS_AT_ONCE = 64
"""New edits that are looked up at once."""


class Asking(NamedTuple):
    """A stored edit that asks what a new one asks.

    Attributes:
        id: its id.
        score: the lesser of the judge's scores both ways, as log-odds.
        sure: whether no near pair scores as high.
    """

    id: str
    score: float
    sure: bool


def asking_same(policy: NearestPolicy, edits: Sequence[Edit]) -> list[list[Asking]]:
    """Return, for each of n new edits, the enabled stored ones that ask the same; without a judge, none."""
    verifier, scope = policy.verifier, policy.scope
    if verifier is None or scope is None or not len(policy.index):
        return [[] for _ in edits]
    found: list[list[Asking]] = []
    for start in range(0, len(edits), EDITS_AT_ONCE):
        part = edits[start : start + EDITS_AT_ONCE]
        near = [_nearest(policy.index, tensors) for tensors in policy.keys_of(part)]
        sure = verifier.judge.greatest_near
        for same in _both_ways(verifier, part, near):
            above = [(policy.ids[record], score) for record, score in same if score > scope.least]
            found.append([Asking(edit_id, score, score > sure) for edit_id, score in above])
    return found


def _nearest(index: NeuronIndex, tensors: KeyTensors) -> list[int]:
    """Return the records of the edits nearest to any key of an edit's own prompts, each once."""
    owners = index.search(Keys.from_tensors(tensors)[~tensors["quiet"]], PROPOSED).owner
    return list(dict.fromkeys(owner for owner in owners.T.flatten().tolist() if owner >= 0))[:PROPOSED]


def _both_ways(
    verifier: Verifier, edits: Sequence[Edit], near: Sequence[Sequence[int]]
) -> Iterator[list[tuple[int, float]]]:
    """Yield, for each new edit, the records near it with the lesser of both scores, the likeliest first."""
    new = Verifier(verifier.judge, lambda number: Wordings.of(edits[number]))
    prompts = [asked(edit.prompt) for edit in edits]
    scored = verifier.score(prompts, [[Candidate(record, 0.0) for record in records] for records in near])
    pairs = [(verifier.main_prompt(one.record), number) for number, row in enumerate(scored) for one in row]
    back = iter(new.score([prompt for prompt, _ in pairs], [[Candidate(number, 0.0)] for _, number in pairs]))
    for row in scored:
        yield [(one.record, min(one.score, next(back)[0].score)) for one in row]
