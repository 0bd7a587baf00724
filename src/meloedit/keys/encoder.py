"""KeyEncoder: the fitted maps that make keys of pooled states and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .names import WordVectors, named
from .pooling import Pooling
from .projection import Projection
from .similarity import Similarity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Calibration:
    """What turns a prompt's pooled state and words into a key, and the keys of the prompts that set the scope.

    A key is [u | a | words], compared as ``Similarity`` says: u is of the state over all words, a of that over what is
    no name. Of documents it is u alone.

    Attributes:
        whitening: pooled state -> u.
        prompts: (n, k) keys of the calibration prompts, in every form they may be asked in, and of their segments.
        info: where the prompts came from.
        words: how common words are; ``None``: keys are u alone, and prompts are not looked at by segments.
        asking: pooled state of what is no name -> a; ``None``: names are not looked at.
        token_weights: (V + 1,) how much each token's state weighs in a pooled one; ``None``: all the same.
        of: (n,) the number of the prompt that each key is of; ``None``: one key each.
    """

    whitening: Projection
    prompts: Tensor
    info: dict[str, Any]
    words: WordVectors | None = None
    token_weights: Tensor | None = None
    of: Tensor | None = None
    asking: Projection | None = None

    @property
    def similarity(self) -> Similarity:
        """How keys are compared, and which numbers they have."""
        return Similarity(len(self.whitening.components), 0 if self.asking is None else len(self.asking.components))

    def pooling(self, tokenizer: PreTrainedTokenizerBase) -> Pooling:
        """Return how much the state of each token weighs in what keys are made of."""
        return Pooling(self.token_weights, self.words, tokenizer)

    def keys(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the keys (n, k) of prompts from their pooled states (n, d), or (n, 2 d), and their words."""
        size = len(self.whitening.mean)
        said, asked = states[:, :size], states[:, -size:]  # both the same for prompts under way when names came in
        u = self.whitening(said)
        if self.words is None or self.asking is None:
            return u
        return torch.cat([u, self.asking(asked), named(texts, self.words).to(u)], dim=-1)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store; the prompts' keys in float16, which moves the threshold by less than 1e-3."""
        whitening, numbers = self.whitening, self.similarity.said + self.similarity.asked
        tensors = {"mean": whitening.mean, "components": whitening.components}
        tensors["prompts"] = self.prompts[:, :numbers].half()
        if self.words is not None:
            tensors["words"] = self.words.counts
        if self.asking is not None:
            tensors |= {"asking_mean": self.asking.mean, "asking_components": self.asking.components}
            tensors["named"] = self.prompts[:, numbers:].contiguous()  # words, as numbers that float16 cannot hold
        more = {"token_weights": self.token_weights, "of": self.of}
        return tensors | {name: tensor for name, tensor in more.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], info: dict[str, Any]) -> Calibration:
        """Make a calibration from stored tensors."""
        words = WordVectors(tensors["words"]) if "words" in tensors else None
        whitening = Projection(tensors["mean"], tensors["components"])
        prompts, asking = tensors["prompts"].float(), None
        if "asking_mean" in tensors:
            asking = Projection(tensors["asking_mean"], tensors["asking_components"])
            prompts = torch.cat([prompts, tensors["named"]], 1)
        return cls(whitening, prompts, info, words, tensors.get("token_weights"), tensors.get("of"), asking)
