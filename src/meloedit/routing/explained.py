"""Explained: what speaks for the edit that came nearest to a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..keys.names import asked_shares, name_shares
from ..keys.similarity import Evidence

if TYPE_CHECKING:
    from ..keys.keys import Keys
    from ..types import Asked
    from .calibration import Calibration
    from .choice import Choice
    from .index import NeuronIndex
    from .verifier import Verifier


@dataclass(frozen=True)
class Explained:
    """Gathers evidence.

    Attributes:
        index: the edits' keys.
        calibration: the calibration in force.
        verifier: the second stage; ``None`` without one.
        ids: edits' ids by their records.
        wordings: returns the text of each of an edit's keys.
    """

    index: NeuronIndex
    calibration: Calibration
    verifier: Verifier | None
    ids: Mapping[int, str]
    wordings: Callable[[str], list[str]]

    def evidence(self, choice: Choice, read: Asked, keys: Keys, asked: Sequence[Asked]) -> Evidence:
        """Return the terms of a prompt's similarity to an edit, the words of its names, and the judge's scores.

        Args:
            choice: what was decided; its best candidate is explained.
            read: what the judge read.
            keys: (m,) the prompt's keys; the one nearest to the edit counts.
            asked: (m,) what each of them asks.
        """
        terms, query, key = self.index.evidence(choice.best.record, keys)
        if choice.judged:
            assert self.verifier is not None
            candidates = [(self.ids[one.record], *one.probabilities, one.guard) for one in choice.judged]
            terms = terms._replace(
                candidates=candidates, turns_read=len(read.before), cut=self.verifier.judge.truncates(read)
            )
        words = self.calibration.encoder.words
        if words is None or terms.entity_overlap is None:
            return terms
        mentioned = asked_shares(asked[query], words)
        wording = self.wordings(self.ids[choice.best.record])[key]
        names = {word: share for word, share in name_shares(wording, words).items() if share}
        return terms._replace(names={word: (share, word in mentioned) for word, share in names.items()})
