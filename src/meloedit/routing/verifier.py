"""Verifier: the second stage of routing. The judge reads a prompt beside each candidate and scores it.

A candidate is approved if the prompt asks what one of the edit's wordings asks: if its score exceeds the scope's least
score, and no quiet prompt of the edit scores as high.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..hooks.key_reader import MAX_TURNS
from ..judging.guards import PENALTY, Guard, guard_of
from ..judging.judge import Judge
from ..judging.spelling import REMEMBERED, respelled, words_of
from ..types import Asked

if TYPE_CHECKING:
    import torch

    from ..edit import Edit
    from ..types import Prompt

PUNCTUATION = "?!.,;:…\"'`()[]¿¡？！。，、；："
"""What may stand around a word without changing it."""
CANDIDATES = 4
"""Edits that the judge reads beside a prompt, the nearest ones."""
CANDIDATE_SHARE = 0.1
"""Share of the calibration prompts that the index may propose an edit for: it bounds what judging costs."""
MAX_WORDINGS = 6
"""Wordings of an edit that the judge reads, and quiet prompts: those that share most words with the prompt."""
TURNS_PENALTY = 2.0
"""What turns before a prompt take from its score: the judge scores near questions so much higher behind a chat."""
QUIET_MARGIN, QUIET_LEAST = 0.5, 3.0
"""By how much a quiet prompt must score higher than the edit, and how high at least (measured in docs/scope.md)."""
SAME = 40.0
"""The score of a prompt in the words of an edit, which is not judged: the odds are beyond those of any other."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that write no blanks between words."""


class Wordings(NamedTuple):
    """What an edit asks.

    Attributes:
        own: its prompt and variants.
        quiet: its quiet prompts.
    """

    own: tuple[Asked, ...]
    quiet: tuple[Asked, ...] = ()

    @classmethod
    def of(cls, edit: Edit) -> Wordings:
        """Return the wordings of an edit."""
        return cls(*(tuple(map(asked, prompts)) for prompts in (edit.prompts, edit.quiet)))


class Candidate(NamedTuple):
    """An edit that the index proposes for a prompt.

    Attributes:
        record: the edit's record.
        distance: the distance of its key.
        score: the judge's score of the best of its wordings, as log-odds; -inf before it is judged.
        quiet: the score of the best of its quiet prompts; -inf without any.
        guard: the guard that lowered the score.
    """

    record: int
    distance: float
    score: float = -math.inf
    quiet: float = -math.inf
    guard: Guard | None = None

    @property
    def probabilities(self) -> tuple[float, float | None]:
        """Score and ``quiet`` as probabilities; ``None`` without quiet prompts."""
        return probability(self.score), None if math.isinf(self.quiet) else probability(self.quiet)

    @property
    def silenced(self) -> bool:
        """Whether one of its quiet prompts keeps it from answering: its score is high, and higher than the edit's.

        A rewording of the edit scores beside a near quiet prompt about as high as beside the edit, so that it takes
        more than a higher score.
        """
        return self.quiet >= max(self.score + QUIET_MARGIN, QUIET_LEAST)


class Verifier:
    """Scores candidates.

    Args:
        judge: reads two texts.
        wordings: returns what an edit asks, by its record.
    """

    def __init__(self, judge: Judge, wordings: Callable[[int], Wordings]) -> None:
        self.judge, self._wordings = judge, wordings

    @classmethod
    def open(cls, judge: str | None, device: torch.device, wordings: Callable[[int], Wordings]) -> Verifier | None:
        """Return a verifier with the judge that a setting names; ``None`` for ``none``.

        Raises:
            ModelError: if there is no such judge, or its file is damaged.
        """
        if judge in (None, "none"):
            return None
        return cls(Judge.open(None if judge == "built-in" else Path(judge), device), wordings)

    def score(self, prompts: Sequence[Asked], found: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
        """Return the candidates of n prompts with their scores, best first; all pairs go through the judge together."""
        pairs: dict[tuple[Asked, Asked], float] = {}
        read: dict[tuple[Asked, Asked], Asked] = {}  # the prompts as the judge reads them
        guards: dict[tuple[Asked, Asked], Guard | None] = {}
        for prompt, candidates in zip(prompts, found, strict=True):
            wordings = {one.record: self._read(prompt, one.record) for one in candidates}
            words = {record: set().union(*(words_of(w.text) for w in own)) for record, own in wordings.items()}
            for record, own in wordings.items():
                others = set().union(*(words[other] for other in words if other != record))
                for pair in ((prompt, wording) for wording in own):
                    pairs[pair] = SAME if same_words(*pair) else 0.0
                    read[pair] = self._respelled(*pair, others)
        if unknown := [pair for pair, score in pairs.items() if score != SAME]:
            scores = self.judge.scores([read[pair] for pair in unknown], [wording for _, wording in unknown])
            for pair, score in zip(unknown, scores.tolist(), strict=True):
                guards[pair] = guard_of(read[pair].text, pair[1].text)
                turns = bool(pair[0].before) and not pair[1].before
                pairs[pair] = score - (PENALTY if guards[pair] else 0.0) - (TURNS_PENALTY if turns else 0.0)
        return [
            sorted((self._scored(prompt, candidate, pairs, guards) for candidate in candidates), key=_best_first)
            for prompt, candidates in zip(prompts, found, strict=True)
        ]

    def may_ask(self, prompt: Asked, record: int) -> bool:
        """Return whether a prompt may ask what an edit asks: one word does only if it is a wording of the edit."""
        return not is_one_word(prompt.text) or any(same_words(prompt, own) for own in self._wordings(record).own)

    def main_prompt(self, record: int) -> Asked:
        """Return what an edit's own prompt asks."""
        return self._wordings(record).own[0]

    def _read(self, prompt: Asked, record: int) -> list[Asked]:
        """Return the wordings and quiet prompts of an edit that are read beside a prompt."""
        return [wording for part in self._wordings(record) for wording in _likest(prompt, part)]

    def overlaps(self, record: int, others: Sequence[int], least_score: float) -> list[int]:
        """Return those of other edits that a wording of an edit would reach, if that edit were not there."""
        wordings = self._wordings(record).own
        scored = self.score(wordings, [[Candidate(other, 0.0) for other in others]] * len(wordings))
        reached = {one.record for row in scored for one in row if one.score > least_score and not one.silenced}
        return [other for other in others if other in reached]

    def _respelled(self, prompt: Asked, wording: Asked, others: set[str]) -> Asked:
        return prompt._replace(text=respelled(prompt.text, wording.text, self.judge.knows, others))

    def _scored(
        self,
        prompt: Asked,
        candidate: Candidate,
        pairs: Mapping[tuple[Asked, Asked], float],
        guards: Mapping[tuple[Asked, Asked], Guard | None],
    ) -> Candidate:
        own, quiet = self._wordings(candidate.record)
        best = max(((prompt, wording) for wording in own), key=lambda pair: pairs.get(pair, -math.inf))
        return candidate._replace(
            score=pairs.get(best, -math.inf),
            guard=guards.get(best),
            quiet=max((pairs.get((prompt, wording), -math.inf) for wording in quiet), default=-math.inf),
        )


def _likest(prompt: Asked, wordings: Sequence[Asked]) -> Sequence[Asked]:
    """Return at most ``MAX_WORDINGS`` texts: those in the prompt's own words first, then by the share of words."""
    if len(wordings) <= MAX_WORDINGS:
        return wordings
    words = words_of(prompt.text)

    def alike(wording: Asked) -> tuple[bool, float]:
        own = words_of(wording.text)
        return same_words(prompt, wording), len(own & words) / max(1, len(own | words))

    return sorted(wordings, key=alike, reverse=True)[:MAX_WORDINGS]


def probability(score: float) -> float:
    """Return the probability that log-odds stand for."""
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def _best_first(candidate: Candidate) -> tuple[float, float, int]:
    """Order by score, then by distance; equal ones by age, the newest first."""
    return -candidate.score, candidate.distance, -candidate.record


def asked(prompt: Prompt) -> Asked:
    """Return what a prompt asks, with the turns before it as ``KeyReader.asked`` finds them in a prompt's tokens.

    These are the last turns of the user and of the assistant that answers, where they have a text.
    """
    if isinstance(prompt, str):
        return Asked(prompt)
    turns = [turn for turn in prompt if turn["role"] != "system"]
    users = [i for i, turn in enumerate(turns) if turn["role"] == "user"]
    answers = [i + 1 for i in users if i + 1 < len(turns) and turns[i + 1]["role"] == "assistant"]
    before = [turns[i]["content"].strip() for i in sorted((*users, *answers)) if i < users[-1]]
    return Asked(turns[users[-1]]["content"], tuple(text for text in before[-MAX_TURNS:] if text))


def same_words(prompt: Asked, wording: Asked) -> bool:
    """Return whether two texts, and the turns before them, differ in case, blanks and punctuation alone."""
    if len(prompt.before) != len(wording.before):
        return False
    return all(
        one == other or _spoken(one) == _spoken(other)
        for one, other in zip((prompt.text, *prompt.before), (wording.text, *wording.before), strict=True)
    )


def is_one_word(text: str) -> bool:
    """Return whether a text is one word, or none; in scripts without blanks between words that is not told."""
    return len(_spoken(text)) < 2 and not _UNSPACED.search(text)


@lru_cache(REMEMBERED)
def _spoken(text: str) -> tuple[str, ...]:
    """Return the words of a text as they are spoken: "C++" and "C" are two words, "Now" and "now?" are one."""
    stripped = (word.strip(PUNCTUATION) for word in text.casefold().split())
    return tuple(word for word in stripped if word)
