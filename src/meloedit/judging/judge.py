"""Judge: a small cross-encoder that scores whether a prompt and an edit's wording ask the same.

It is a function of two texts alone, so that one judge serves every base model. Its file holds weights, vocabulary, and
the scores of near pairs that it was not trained on, from which a threshold for a stated rate follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..callers.precision import exact
from ..errors import EditError
from ..types import Asked
from .pairs import PairTokenizer
from .reader import PairReader
from .weights import JudgeFile, read_judge

BUILT_IN = Path(__file__).with_name("judge.safetensors")
"""The judge that ships with the package."""
PAIRS_AT_ONCE = 64
"""Pairs that run through the judge in one batch."""


class Judge:
    """Scores pairs: log-odds that both ask the same.

    Args:
        file: its weights, vocabulary and figures.
        device: where it runs; in float32, whatever the base model has.
    """

    def __init__(self, file: JudgeFile, device: torch.device | str = "cpu") -> None:
        self.name = file.name
        self.card = file.card
        self._near, self._device = file.near, torch.device(device)
        self._pairs = PairTokenizer(file.tokenizer)
        self._read = PairReader(file.model(), self._device)

    @classmethod
    def open(cls, path: Path | None = None, device: torch.device | str = "cpu") -> Judge:
        """Open a judge's file; ``None``: the one that ships with the package.

        Raises:
            ModelError: if the file is missing, damaged, or of another version.
        """
        return _built_in(str(device)) if path is None else cls(read_judge(path), device)

    def __repr__(self) -> str:
        return f"Judge({self.name})"

    def least_score(self, false_neighbour: float) -> float:
        """Return the score that at most this share of the near pairs kept back from training exceed.

        Raises:
            EditError: if there are too few of these for so small a share.
        """
        count = len(self._near)
        if (place := math.ceil((count + 1) * (1 - false_neighbour))) > count:
            raise EditError(
                f"{count:,} near pairs cannot calibrate a false_neighbour of {false_neighbour:g}: "
                f"give at least {1 / (count + 1):.2g}"
            )
        return float(self._near[place - 1])

    @property
    def greatest_near(self) -> float:
        """The greatest score of the near pairs kept back from training: what scores above it is the same for sure."""
        return float(self._near[-1])

    def truncates(self, prompt: Asked) -> bool:
        """Return whether a prompt is longer than what the judge reads."""
        return self._pairs.is_cut(prompt)

    def knows(self, word: str) -> bool:
        """Return whether a word in lower case is a common one."""
        return self._pairs.knows(word)

    @torch.no_grad()
    def scores(self, prompts: Sequence[Asked], wordings: Sequence[Asked]) -> Tensor:
        """Return the scores (n,) of n prompts, each beside an edit's wording; on the CPU, float32."""
        sides = self._pairs.encode(prompts, wordings)
        order = sorted(range(len(sides)), key=lambda i: len(sides[i].ids))
        scores = torch.empty(len(sides), dtype=torch.float32)
        with exact(self._device):
            for start in range(0, len(order), PAIRS_AT_ONCE):
                part = order[start : start + PAIRS_AT_ONCE]
                scores[part] = self._read([sides[i] for i in part]).cpu()
        return scores


@cache
def _built_in(device: str) -> Judge:
    return Judge(read_judge(BUILT_IN), device)  # one for all editors: it has no state
