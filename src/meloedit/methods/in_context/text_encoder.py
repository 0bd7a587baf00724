"""An encoder that turns texts into unit vectors: for ``rag`` and ``ike`` to retrieve, for ``serac`` to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...backbones.loading import ENCODER, encoder_folder, why_not_loaded
from ...errors import MeloEditError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_SIZE = 64
MAX_TOKENS = 256
"""Longer texts are cut."""


class TextEncoder:
    """Encodes a text as the mean of an encoder's last states, at unit length.

    Args:
        name: ``minilm``, a folder or a hub name.
        device: where the encoder runs.

    Attributes:
        model: the encoder.
        size: numbers of a vector.

    Raises:
        MeloEditError: if there is no such encoder, or its files cannot be read.
    """

    def __init__(self, name: str, device: torch.device | str) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = str(encoder_folder()) if name == ENCODER else name
        try:
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
            self.model: Any = AutoModel.from_pretrained(source).eval().to(device)
        except (OSError, ValueError) as error:
            raise MeloEditError(
                f"cannot load the encoder {source!r} ({why_not_loaded(source, error)}); "
                f"give encoder a folder, a hub name, or {ENCODER!r}"
            ) from None
        self.size: int = self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the encoder runs, and its vectors are."""
        return self.model.device

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (n, size) of texts, of unit length."""
        parts = []
        for start in range(0, len(texts), BATCH_SIZE):
            parts.append(self.vectors(texts[start : start + BATCH_SIZE]))
        return torch.cat(parts)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (n, size) of texts in one pass, through which gradients flow."""
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.model.device)
        states = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    @property
    def separator(self) -> str:
        """The text of the token that stands between two texts."""
        return str(self._tokenizer.sep_token or "\n")
