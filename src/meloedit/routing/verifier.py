"""Verifier: the second stage of routing. The judge reads a prompt beside each candidate and scores it.

A candidate is approved if the prompt asks what one of the edit's wordings asks: if its score exceeds the scope's least
score, and no quiet prompt of the edit scores as high.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..hooks.key_reader import MAX_TURNS
from ..judging.guards import Guard, cost_of, guard_of
from ..judging.judge import Judge
from ..judging.request import request_of
from ..judging.spelling import respelled, words_of
from ..judging.statements import completed_by_answer
from ..judging.wording import is_one_word, names_something, same_words
from ..keys.function_words import FUNCTION_WORDS, is_english
from ..types import Asked

if TYPE_CHECKING:
    import torch

    from ..edit import Edit
    from ..types import Prompt

CANDIDATES = 4
"""Edits that the judge reads beside a prompt, the nearest ones."""
CANDIDATE_SHARE = 0.1
"""Share of the calibration prompts that the index may propose an edit for: it bounds what judging costs."""
MAX_WORDINGS = 6
"""Wordings of an edit that the judge reads, and quiet prompts: those that share most words with the prompt."""
TURNS_PENALTY = 1.5
"""What turns before a prompt take from its score: the judge scores near questions so much higher behind a chat."""
FOREIGN_PENALTY = 1.0
"""What a wording that is not English takes: the judge scores near questions so much higher there."""
QUIET_MARGIN = 1.25
"""By how much a quiet prompt must score higher than the edit (measured in docs/scope.md)."""
RULES = 9
"""Counts changes of how scores follow from the judge's: those that a store keeps by other rules are made again."""
BEGINNING = 5
"""Letters by which two words are taken for forms of one."""
SAME = 40.0
"""The score of a prompt in the words of an edit, which is not judged: the odds are beyond those of any other."""


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
        """Whether one of its quiet prompts keeps it from answering: it scores higher than the edit by a margin.

        A rewording of the edit scores beside a near quiet prompt about as high as beside the edit itself.
        """
        return self.quiet > -math.inf and self.quiet >= self.score + QUIET_MARGIN


class Verifier:
    """Scores candidates.

    Args:
        judge: reads two texts.
        wordings: returns what an edit asks, by its record.
    """

    def __init__(self, judge: Judge, wordings: Callable[[int], Wordings]) -> None:
        self.judge, self._wordings = judge, wordings

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
                    asking = requesting(*pair)
                    pairs[pair] = SAME if same_words(asking, pair[1]) else 0.0
                    read[pair] = self._respelled(asking, pair[1], others)
        unknown = [pair for pair, score in pairs.items() if score != SAME]
        for pair, score in zip(unknown, self._judged([(read[pair], pair[1]) for pair in unknown]), strict=True):
            guards[pair] = guard_of(read[pair].text, pair[1].text)
            foreign = not is_english(pair[1].text)
            cost = cost_of(guards[pair], read[pair].text, pair[1].text)
            pairs[pair] = score - cost - (FOREIGN_PENALTY if foreign else 0.0)
        return [
            sorted((self._scored(prompt, candidate, pairs, guards) for candidate in candidates), key=_best_first)
            for prompt, candidates in zip(prompts, found, strict=True)
        ]

    def in_own_words(self, prompt: Asked, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that a prompt asks in the words of one of their wordings, scored as ``score`` does.

        No quiet prompt can keep them from answering, and no other candidate scores as high.
        """
        found = [
            one._replace(score=SAME)
            for one in candidates
            if any(same_words(requesting(prompt, own), own) for own in _likest(prompt, self._wordings(one.record).own))
        ]
        return sorted(found, key=_best_first)

    def _judged(self, pairs: Sequence[tuple[Asked, Asked]]) -> list[float]:
        """Return the judge's scores of prompts beside wordings.

        Turns before a prompt lower its score. A last turn that names somebody or something may mean the same without
        them, and so does a last sentence that the answer completes without those before it: then it is read alone,
        too, and the greater score counts.
        """
        behind = [bool(prompt.before) and not wording.before for prompt, wording in pairs]
        alone = [(i, one) for i, pair in enumerate(pairs) if (one := _alone(*pair, behind[i]))]
        read = [*pairs, *((Asked(text), pairs[i][1]) for i, text in alone)]
        if not read:
            return []
        scores = self.judge.scores([prompt for prompt, _ in read], [wording for _, wording in read]).tolist()
        found = [score - TURNS_PENALTY * one for score, one in zip(scores[: len(pairs)], behind, strict=True)]
        for (i, _), score in zip(alone, scores[len(pairs) :], strict=True):
            found[i] = max(found[i], score)
        return found

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


class JudgeInUse:
    """The judge that decides, by the name of the setting ``judge``; it is opened again only if that changes.

    Args:
        device: where it runs.
        wordings: returns what an edit asks, by its record.
        never: whether there is none, whatever is named.
    """

    def __init__(self, device: torch.device, wordings: Callable[[int], Wordings], never: bool = False) -> None:
        self._device, self._wordings, self._never = device, wordings, never
        self._named: str | None = "none"
        self.verifier: Verifier | None = None

    def take(self, named: str | None) -> None:
        """Use the judge of this name from now on.

        Raises:
            ModelError: if there is no such judge, or its file is damaged.
        """
        if named != self._named:
            self._named, self.verifier = named, self._open(named)

    def name_of(self, named: str | None) -> str | None:
        """Return what follows from the contents of the judge of this name; ``None`` without one."""
        verifier = self.verifier if named == self._named else self._open(named)
        return None if verifier is None else verifier.judge.name

    def _open(self, named: str | None) -> Verifier | None:
        if self._never or named in (None, "none"):
            return None
        return Verifier(Judge.open(None if named == "built-in" else Path(str(named)), self._device), self._wordings)


def requesting(prompt: Asked, wording: Asked) -> Asked:
    """Return what is read of a prompt beside a wording: its request, without the text that it brings along.

    A request that names nothing, and has a word of the wording, is read behind the beginning of that text ("Question:
    how long is its warranty?"). A wording that brings text along itself is compared with the whole prompt: the text is
    what it asks about.
    """
    request = request_of(prompt.text)
    if request.text == prompt.text or request_of(wording.text).about:
        return prompt
    refers = request.about and names_something(wording.text) and not names_something(request.text)
    refers = refers and bool(_beginnings(request.text) & _beginnings(wording.text))
    return Asked(request.text, (*prompt.before, request.about) if refers else prompt.before)


def _alone(prompt: Asked, wording: Asked, behind: bool) -> str:
    """Return what is read of a prompt alone, too: its last turn, or its last sentence; empty: nothing."""
    if behind:
        return prompt.text if names_something(prompt.text) else ""
    last = "" if prompt.before else completed_by_answer(prompt.text)
    return last if _beginnings(last) & _beginnings(wording.text) else ""


def _beginnings(text: str) -> set[str]:
    """Return how the content words of a text begin: "coach" and "coaches" alike."""
    return {word[:BEGINNING] for word in words_of(text) if word not in FUNCTION_WORDS}


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
