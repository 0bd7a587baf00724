"""Choice: of the edits that the index proposes for a prompt, the one that answers, or none, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..judging.request import request_of
from ..judging.wording import names_something
from ..keys.function_words import is_english
from ..keys.pooling import PooledStates
from ..results import Reason
from ..types import Asked
from .index import Candidates, NeuronIndex
from .verifier import Candidate, Verifier

if TYPE_CHECKING:
    from .judged_scope import JudgedScope

SENTENCE_END = 24
"""Characters at the end of a sentence by which it is found in a prompt's request."""
SHORT = 72
"""Characters of a short prompt. In a long story the judge takes too much for a question without a name."""
NOBODY = Candidate(-1, math.inf)
"""Where there is no candidate."""


class Choice(NamedTuple):
    """What was decided for a prompt.

    Attributes:
        record: the edit that answers; -1: none.
        best: the candidate that came nearest to answering; ``NOBODY`` where there is none.
        reason: why it answers, or why none does.
        judged: the candidates that the judge read, best first.
    """

    record: int
    best: Candidate
    reason: Reason
    judged: Sequence[Candidate] = ()


class Found(NamedTuple):
    """What the index found for a prompt.

    Attributes:
        candidates: the edits in reach, nearest first.
        nearest: the nearest edit of all.
        suppressed: the nearest edit that one of its quiet prompts keeps from answering.
        obeyed: whether that quiet prompt lies in scope.
    """

    candidates: list[Candidate]
    nearest: Candidate
    suppressed: Candidate
    obeyed: bool


def is_short(asked: Asked, keys: int) -> bool:
    """Return whether a prompt, which has so many keys, is one short sentence in English without turns before it."""
    return keys == 1 and not asked.before and len(asked.text) <= SHORT and is_english(asked.text)


def reaches(pooled: PooledStates, index: NeuronIndex, judged: JudgedScope | None) -> list[float]:
    """Return for each of B prompts the distance below which an edit is in reach: greater for short ones if judged."""
    if judged is None:
        return [index.threshold] * pooled.count
    keys, threshold, of_short = Counter(pooled.rows), index.threshold, index.short_threshold
    return [of_short if is_short(asked, keys[i]) else threshold for i, asked in enumerate(prompts_of(pooled))]


def candidates_of(found: Candidates, pooled: PooledStates, thresholds: Sequence[float]) -> list[Found]:
    """Return, for each of B prompts, the edits nearest to any of its keys.

    An edit that one key of a prompt suppresses is not reached by another one: a quiet prompt is obeyed as a whole.

    Args:
        found: the nearest edits of each of the prompts' keys.
        pooled: says which keys belong to which prompt.
        thresholds: for each of the prompts the distance below which an edit is in reach.
    """
    near: list[dict[int, float]] = [{} for _ in range(pooled.count)]
    suppressed: list[dict[int, tuple[float, float]]] = [{} for _ in range(pooled.count)]
    columns = (found.owner, found.distance, found.suppressed, found.suppressed_distance, found.quiet_distance)
    for row, read, owners, distances, silent, silent_distance, quiet in zip(
        pooled.rows, _requested(pooled), *(column.tolist() for column in columns), strict=True
    ):
        if not read:
            continue
        for owner, distance in zip(owners, distances, strict=True):
            if owner >= 0:
                near[row][owner] = min(distance, near[row].get(owner, math.inf))
        if silent >= 0:
            suppressed[row][silent] = min((silent_distance, quiet), suppressed[row].get(silent, (math.inf, math.inf)))
    return [_found(*of_prompt) for of_prompt in zip(near, suppressed, thresholds, strict=True)]


def _requested(pooled: PooledStates) -> list[bool]:
    """Return for each of the prompts' keys whether it counts: not that of a sentence of the text a prompt brings along.

    Where the request names nothing, what it is about stands in that text: then all of them count.
    """
    requests: dict[int, str | None] = {}
    counts = []
    for row, asked in zip(pooled.rows, pooled.asked, strict=True):
        if row not in requests:
            request = request_of(asked.text)
            requests[row] = " ".join(request.text.split()) if request.about and names_something(request.text) else None
            counts.append(True)
        else:
            whole = requests[row]
            # by its end: a label ("Question:") may stand before it
            counts.append(whole is None or " ".join(asked.text.split())[-SENTENCE_END:] in whole)
    return counts


def _found(near: dict[int, float], suppressed: dict[int, tuple[float, float]], threshold: float) -> Found:
    silent = {record for record, (_, quiet) in suppressed.items() if quiet < threshold}
    free = [Candidate(*pair) for pair in near.items() if pair[0] not in silent]
    free.sort(key=lambda candidate: candidate.distance)
    first = min(suppressed.items(), key=lambda item: item[1][0], default=None)
    reached = [candidate for candidate in free if candidate.distance < threshold]
    nearest = free[0] if free else NOBODY
    if first is None:
        return Found(reached, nearest, NOBODY, False)
    return Found(reached, nearest, Candidate(first[0], first[1][0]), first[0] in silent)


def by_distance(found: Candidates, pooled: PooledStates, threshold: float) -> list[Choice]:
    """Choose the nearest edit in scope: the default mode without a judge."""
    return [_by_distance(one) for one in candidates_of(found, pooled, [threshold] * pooled.count)]


def _by_distance(found: Found) -> Choice:
    if found.candidates:
        return Choice(found.candidates[0].record, found.candidates[0], "fired")
    if found.suppressed.distance <= found.nearest.distance and found.suppressed.record >= 0:
        return Choice(-1, found.suppressed, "quiet" if found.obeyed else "outside scope")
    return Choice(-1, found.nearest, "outside scope")


def by_judge_of_words(
    verifier: Verifier, pooled: PooledStates, found: Sequence[Found], least_score: float, brief: bool = False
) -> list[Choice]:
    """Choose as ``by_judge``; a prompt of one word has no candidate but those of which that word is a wording.

    Args:
        verifier: has the judge.
        pooled: the prompts.
        found: what the index found for each.
        least_score: the score that an edit must exceed.
        brief: read no more than the choice needs: beside an edit that a prompt asks in its own words, no other one can
            answer. ``judged`` lacks the others then.
    """
    prompts = prompts_of(pooled)
    asked = [
        one._replace(candidates=[edit for edit in one.candidates if verifier.may_ask(prompt, edit.record)])
        for prompt, one in zip(prompts, found, strict=True)
    ]
    if not brief:
        return by_judge(verifier, prompts, asked, least_score)
    certain = [verifier.in_own_words(prompt, one.candidates) for prompt, one in zip(prompts, asked, strict=True)]
    open_ = [place for place, one in enumerate(certain) if not one]
    judged = iter(by_judge(verifier, [prompts[i] for i in open_], [asked[i] for i in open_], least_score))
    return [_by_judge(one, own, least_score) if own else next(judged) for one, own in zip(asked, certain, strict=True)]


def by_judge(verifier: Verifier, prompts: Sequence[Asked], found: Sequence[Found], least_score: float) -> list[Choice]:
    """Choose the edit of the best score; none whose score does not exceed ``least_score``."""
    scored = verifier.score(prompts, [one.candidates for one in found])
    return [_by_judge(one, judged, least_score) for one, judged in zip(found, scored, strict=True)]


def _by_judge(found: Found, judged: Sequence[Candidate], least_score: float) -> Choice:
    if not judged:
        return _by_distance(found._replace(candidates=[]))
    approved = [one for one in judged if one.score > least_score and not one.silenced]
    if approved:
        return Choice(approved[0].record, approved[0], "fired", judged)
    quiet = judged[0].silenced and judged[0].quiet > least_score
    return Choice(-1, judged[0], "quiet" if quiet else "judged other", judged)


def prompts_of(pooled: PooledStates) -> list[Asked]:
    """Return what each of B prompts asks as a whole: the first of its rows."""
    whole: dict[int, Asked] = {}
    for row, asked in zip(pooled.rows, pooled.asked, strict=True):
        whole.setdefault(row, asked)
    return [whole[row] for row in range(pooled.count)]
