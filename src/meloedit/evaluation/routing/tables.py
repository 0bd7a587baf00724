"""Retrievers with a table of keys: the key of the paper, and the vectors of a sentence encoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...edit import prompt_text
from ...editor import Editor
from ...hooks.state_reader import pooled_states
from ...methods.in_context.rag import Rag
from ...methods.in_context.retrieval import chord
from ...methods.memory.melo import MeloPaper
from ...settings import PaperConfig
from .retriever import Alone, Nearest, Retriever, cached_states, states_of

if TYPE_CHECKING:
    from ...edit import Edit
    from ...methods.base import Method
    from ...types import Progress, Prompt

PROMPTS_AT_ONCE = 512
"""Prompts that are compared with all keys in one matrix."""


class _TableRetriever(Retriever):
    """One key for each wording, and distances to all of them."""

    def add(self, edits: Sequence[Edit]) -> None:
        """Compute a key for each wording of each edit."""
        self._owner = torch.tensor([i for i, edit in enumerate(edits) for _ in edit.prompts])
        self._table = self.keys([prompt for edit in edits for prompt in edit.prompts])

    def search(self, prompts: Sequence[Prompt]) -> Nearest:
        """Return the edit with the nearest of all keys, for each prompt."""
        minima = [self.distances(part).min(1) for part in self.keys(prompts).split(PROMPTS_AT_ONCE)]
        nearest = torch.cat([part.indices for part in minima])
        return Nearest(self._owner[nearest], torch.cat([part.values for part in minima]))

    def search_pairs(self, edits: Sequence[Edit], prompts: Sequence[Prompt]) -> Alone:
        """Compare each prompt with the keys of one edit; all keys are computed at once."""
        self.add(edits)
        whole, counts, minima = self._table, [len(edit.prompts) for edit in edits], []
        for key, own in zip(self.keys(prompts), whole.split(counts), strict=True):
            self._table = own
            minima.append(self.distances(key[None]).min())
        self._table, distance = whole, torch.stack(minima)
        threshold = None if self.threshold is None else torch.full_like(distance, self.threshold)
        return Alone(torch.arange(len(edits)), distance, threshold)

    @abstractmethod
    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the key of each prompt (n, d)."""

    @abstractmethod
    def distances(self, keys: Tensor) -> Tensor:
        """Return the distances (n, m) of keys (n, d) to all m keys of edits."""


class PaperRetriever(_TableRetriever):
    """The paper's key, the key module's output at the prompt's last token, by Euclidean distance.

    Clusters are left out, since they only narrow the scope: ``threshold`` is the initial radius.
    """

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(base, settings, progress)
        config = MeloPaper.read_settings(settings).config
        assert isinstance(config, PaperConfig)
        self._editor = Editor(base.model, base.backbone.tokenizer, config)
        self.threshold = config.radius

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the states of the last tokens (n, d)."""
        encoded = [self._editor.backbone.encode(prompt) for prompt in prompts]
        router = self._editor.engine.router
        return states_of(
            self.base,
            router.locations.key_layer,
            "last",
            encoded,
            lambda: pooled_states(router, encoded, self.progress, "keys of last tokens"),
        )

    def distances(self, keys: Tensor) -> Tensor:
        """Return |u - v|."""
        return torch.cdist(keys, self._table, compute_mode="donot_use_mm_for_euclid_dist")

    def close(self) -> None:
        """Remove every hook from the model."""
        self._editor.unload()


class EncoderRetriever(_TableRetriever):
    """An external sentence encoder's vectors; the distance is |u - v| of unit vectors."""

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(base, settings, progress)
        self._rag = Rag(base.model, base.backbone.tokenizer, settings)
        similarity = self._rag.settings.min_similarity
        self.threshold = chord(torch.tensor(similarity)).item() if similarity > 0 else None

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return vectors of unit length (n, d)."""
        texts = [prompt_text(prompt) for prompt in prompts]
        return cached_states(
            ["encoder", self._rag.settings.encoder, texts], len(texts), lambda: self._rag.encoder.embed(texts)
        )

    def distances(self, keys: Tensor) -> Tensor:
        """Return sqrt(2 - 2 cos)."""
        return chord(keys @ self._table.T)
