"""Chooser: which token a row says next, by the settings of its request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sampling:
    """How an answer is made.

    Attributes:
        max_tokens: the most tokens of an answer.
        temperature: 0: always the likeliest token.
        top_p: sample among the likeliest tokens that have this share of the probability together.
        seed: of the draws; ``None``: another one each time.
        stops: texts before which the answer ends.
        logprobs: how many of the likeliest tokens are reported at each place; ``None``: nothing is reported.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = field(default_factory=tuple)
    logprobs: int | None = None


class Chosen(NamedTuple):
    """A token and, where it was asked for, its log probability and the likeliest tokens with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def shipped_processors(model: PreTrainedModel) -> LogitsProcessorList:
    """Return what the model's own generation config changes in greedy answers: penalties of repetition.

    ``editor.ask`` and ``generate`` follow them, so the server does too.
    """
    config = model.generation_config
    processors = LogitsProcessorList()
    if (penalty := getattr(config, "repetition_penalty", None)) not in (None, 1.0):
        processors.append(RepetitionPenaltyLogitsProcessor(penalty=float(penalty)))
    if size := getattr(config, "no_repeat_ngram_size", None):
        processors.append(NoRepeatNGramLogitsProcessor(int(size)))
    return processors


class Chooser:
    """Chooses the tokens of one row.

    Args:
        sampling: the request's settings.
        processors: what the model's generation config adds.
        device: where the logits are.
    """

    def __init__(self, sampling: Sampling, processors: LogitsProcessorList, device: torch.device) -> None:
        self._sampling, self._processors = sampling, processors
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is all that is wanted, so that a whole batch is chosen at once."""
        return not (self._sampling.temperature or self._sampling.logprobs is not None or self._processors)

    def choose(self, logits: Tensor, said: Sequence[int]) -> Chosen:
        """Return the next token.

        Args:
            logits: (V,) the model's output.
            said: the tokens of prompt and answer so far.
        """
        scores = logits.float()
        if self._processors:
            ids = torch.tensor([list(said)], device=logits.device)
            scores = self._processors(ids, scores[None].clone())[0]  # type: ignore[arg-type]
        token = int(self._sample(scores) if self._sampling.temperature else scores.argmax())
        if self._sampling.logprobs is None:
            return Chosen(token)
        logprobs = logits.float().log_softmax(-1)
        values, tokens = logprobs.topk(min(self._sampling.logprobs, len(logprobs)))
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
        return Chosen(token, float(logprobs[token]), top)

    def _sample(self, scores: Tensor) -> Tensor:
        probabilities = (scores / self._sampling.temperature).softmax(-1)
        if self._sampling.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # the first token is kept whatever its share
            out = ordered.cumsum(-1) - ordered >= self._sampling.top_p
            probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered.masked_fill(out, 0.0))
        return torch.multinomial(probabilities, 1, generator=self._generator)
