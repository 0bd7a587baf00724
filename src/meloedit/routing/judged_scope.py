"""JudgedScope: the least score at which an edit fires, set by prompts that no edit should answer.

Two stated rates set it. ``false_neighbour``: the share of near questions, of those kept back when the judge was
trained, that may score above it. ``false_activation``: of n unrelated prompts with maximum scores m_i, the least score
is no less than the ceil((n + 1)(1 - a))-th smallest m_i (split conformal prediction on the maximum). m_i is taken over
the edits in reach whose keys ``Scope`` caches for the prompt; without any it is -inf.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..types import Asked
from .choice import is_short
from .verifier import CANDIDATE_SHARE, SAME, Candidate, Verifier

if TYPE_CHECKING:
    from ..config import MeloConfig
    from .calibration import Calibration
    from .index import NeuronIndex
    from .scope import NearestCache, Scope

PROMPTS_AT_ONCE = 256
"""Calibration prompts that are judged at once."""


class JudgedScope:
    """Keeps the scores of calibration prompts in step with the index.

    Args:
        verifier: scores candidates.
        prompts: the calibration prompts, in words.
        false_activation: a, the stated share of such prompts that may fire.
        false_neighbour: the stated share of near questions that may.
    """

    def __init__(
        self, verifier: Verifier, prompts: Sequence[Asked], false_activation: float, false_neighbour: float
    ) -> None:
        self._verifier, self._prompts, self.judge = verifier, prompts, verifier.judge
        self._false_activation = false_activation
        self._scores: dict[tuple[int, int], float] = {}  # (prompt, record) -> score
        self.of_neighbours = verifier.judge.least_score(false_neighbour)
        self.least = self.of_neighbours

    def follow(self, scope: Scope) -> None:
        """Judge the pairs of prompts and candidates that are new since the last time, and set the least score."""
        wanted = scope.candidates()
        self._scores = {pair: self._scores[pair] for pair in wanted if pair in self._scores}
        new: dict[int, list[Candidate]] = {}
        for pair, distance in wanted.items():
            if pair not in self._scores:
                new.setdefault(pair[0], []).append(Candidate(pair[1], distance))
        numbers = list(new)
        for start in range(0, len(numbers), PROMPTS_AT_ONCE):
            part = numbers[start : start + PROMPTS_AT_ONCE]
            scored = self._verifier.score([self._prompts[i] for i in part], [new[i] for i in part])
            for i, candidates in zip(part, scored, strict=True):
                self._scores |= {(i, one.record): -math.inf if one.silenced else one.score for one in candidates}
        self.least = max(self.of_neighbours, self.of_prompts)

    @property
    def of_prompts(self) -> float:
        """The score that the calibration prompts alone set.

        Prompts that ask an edit in its own words (traffic does) do not count against it.
        """
        of, scores = (
            torch.tensor([prompt for prompt, _ in self._scores], dtype=torch.long),
            torch.tensor(list(self._scores.values()), dtype=torch.float32),
        )
        best = torch.full((len(self._prompts),), -math.inf, dtype=torch.float32).scatter_reduce(0, of, scores, "amax")
        best = best[best < SAME]
        if not len(best):
            return -math.inf
        place = math.ceil((len(best) + 1) * (1 - self._false_activation))
        return math.inf if place > len(best) else float(torch.kthvalue(best, place).values)

    # -- kept in the store, so that opening it judges nothing

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the scores, as ``restore`` takes them."""
        pairs = torch.tensor(list(self._scores), dtype=torch.int32).reshape(-1, 2)
        return {"judged": pairs, "scores": torch.tensor(list(self._scores.values()), dtype=torch.float32)}

    def restore(self, pairs: Tensor, scores: Tensor) -> None:
        """Start from scores of the same judge and prompts."""
        self._scores = dict(zip(map(tuple, pairs.tolist()), scores.tolist(), strict=True))


def set_scope(
    index: NeuronIndex,
    calibration: Calibration,
    config: MeloConfig,
    verifier: Verifier | None,
    cache: NearestCache | None,
) -> JudgedScope | None:
    """Set how near a prompt must come to an edit, and return what the judge then decides by; ``None`` without one.

    Args:
        index: the edits' keys.
        calibration: its prompts set the scope.
        config: the rates, and the least similarity.
        verifier: the second stage; ``None``: the index alone decides.
        cache: the keys nearest to the calibration prompts, where the store has them.
    """
    prompts = calibration.prompts
    least = config.min_similarity if len(prompts) else config.document_similarity
    least = -1.0 if least is None else least
    if verifier is None:
        index.set_scope(prompts, config.false_activation, least, calibration.prompt_of, cache)
        return None
    short = of_short(calibration)
    share = max(CANDIDATE_SHARE, 2 / (1 + len(prompts)))  # of few prompts one may be nearer than all others
    index.set_scope(prompts, min(share, 0.99), least, calibration.prompt_of, cache, short)
    return JudgedScope(verifier, calibration.asked, config.false_activation, config.false_neighbour)


def of_short(calibration: Calibration) -> Tensor:
    """Return for each key (n,) of the calibration prompts whether its prompt is short."""
    count = len(calibration.asked)
    of = torch.arange(count) if calibration.prompt_of is None else calibration.prompt_of.long()
    keys = torch.bincount(of, minlength=count).tolist()
    return torch.tensor([is_short(*one) for one in zip(calibration.asked, keys, strict=True)], dtype=torch.bool)[of]
