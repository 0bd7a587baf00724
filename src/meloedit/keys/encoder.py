"""KeyEncoder: the fitted maps that make keys of pooled states and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..types import Asked
from .keys import Keys, KeyShape
from .names import WordCounts, word_columns
from .pooling import Pooling
from .projection import Projection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class KeyEncoder:
    """Makes keys: content and relation from pooled states, names from the words.

    Attributes:
        content: projects the mean state of all tokens to the content vector.
        relation: projects the mean state of the non-name tokens to the relation vector; ``None``: keys of content
            alone (documents).
        words: how common words are; ``None`` likewise.
        token_weights: (V + 1,) the weight of each token's state in a mean; ``None``: all weigh the same.
    """

    content: Projection
    relation: Projection | None = None
    words: WordCounts | None = None
    token_weights: Tensor | None = None

    @property
    def shape(self) -> KeyShape:
        """How many numbers the parts of a key have."""
        return KeyShape(self.content.size, 0 if self.relation is None else self.relation.size)

    def pooling(self, tokenizer: PreTrainedTokenizerBase) -> Pooling:
        """Return the weights of tokens' states in the means that keys are made of."""
        return Pooling(self.token_weights, self.words, tokenizer)

    def keys(self, states: Tensor, asked: Sequence[Asked]) -> Keys:
        """Return the keys of n prompts from their pooled states (n, d), or (n, 2 d), and what they ask in words."""
        if self.words is None or self.relation is None:
            return Keys.of_content(self.content(states))
        of_all, of_unnamed = states.chunk(2, 1)
        codes, shares = word_columns(asked, self.words)
        return Keys(self.content(of_all), self.relation(of_unnamed), codes.to(states.device), shares.to(states.device))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the maps as tensors by name."""
        tensors = self.content.to_tensors("content")
        if self.relation is not None:
            tensors |= self.relation.to_tensors("relation")
        if self.words is not None:
            tensors["words"] = self.words.counts
        if self.token_weights is not None:
            tensors["token_weights"] = self.token_weights
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KeyEncoder:
        """Make an encoder of what ``to_tensors`` returned; other tensors are ignored."""
        content = Projection.from_tensors("content", tensors)
        assert content is not None
        words = WordCounts(tensors["words"]) if "words" in tensors else None
        return cls(content, Projection.from_tensors("relation", tensors), words, tensors.get("token_weights"))
