"""EncoderBackbone: the part that encoder-decoders and classifiers share, whose encoder reads the prompt alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..errors import EditError, ModelError
from ..types import Form, Prompt
from .base import Backbone
from .batch import Batch, Encoded, EncoderBatch, Example, of_like_length
from .chat import Span
from .layers import linear_names


def layer_list(model: nn.Module, part: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the layers of a part of a model, and their name: its outermost module list that has linear modules.

    Raises:
        ModelError: if the part has no such list.
    """
    for name, module in model.named_modules():
        in_part = any(module is child for child in part.modules())
        if in_part and isinstance(module, nn.ModuleList) and len(module) and linear_names(module[0]):
            return name, module
    raise ModelError(f"cannot find the layers of {type(part).__name__} in {type(model).__name__}")


class EncoderBackbone(Backbone):
    """A model whose ``prompt_encoder`` reads the prompt alone."""

    prompt_encoder: nn.Module
    # An encoder's states see the whole prompt and tell prompts apart better than a decoder's (docs/paper-mode.md), so
    # a lower similarity is enough.
    defaults: Mapping[str, Any] = {
        "judge": "built-in",
        "min_similarity": 0.5,
        "min_target_probability": 0.98,
        "answer_positions": 0,
        "rewordings": 0,
    }

    @property
    def encoder_forward_names(self) -> list[str]:
        """The names of the arguments of the prompt encoder's ``forward``, in order."""
        return [name for name in inspect.signature(type(self.prompt_encoder).forward).parameters if name != "self"]

    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt, special tokens included."""
        if form not in ("raw", None) or not isinstance(prompt, str):
            raise EditError(f"{type(self.model).__name__} has no chat form: give the prompt as one string")
        ids = self._prompt_ids(prompt)
        if not ids:
            raise EditError(f"the prompt has no tokens: {prompt!r}")
        return Encoded(ids, self.user_span(ids), "raw")

    def _prompt_ids(self, prompt: str) -> list[int]:
        ids = list(self.tokenizer(prompt)["input_ids"])
        if self.max_length is not None and len(ids) > self.max_length:
            raise EditError(f"the prompt has {len(ids)} tokens, the model takes {self.max_length}: shorten it")
        return ids

    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span from the first to the last token that is no special token; the last token if all are."""
        special = set(self.tokenizer.all_special_ids)
        text = [i for i, token in enumerate(ids) if token not in special]
        return Span(text[0], text[-1] + 1, True) if text else Span(len(ids) - 1, len(ids), False)

    def pad(self, rows: Sequence[Example]) -> EncoderBatch:
        """Pad rows, in their order, into one batch."""
        return EncoderBatch.of(rows, self.pad_id, self.device)

    def pack(self, rows: Sequence[Example], size: int) -> list[tuple[list[int], Batch]]:
        """Pack rows of similar length into batches."""
        return [(part, self.pad([rows[i] for i in part])) for part in of_like_length(rows, size)]

    def inputs(self, batch: EncoderBatch) -> dict[str, Any]:
        """Return the arguments of a forward call on a batch; targets are among them if the model reads them."""
        return {"input_ids": batch.ids, "attention_mask": batch.mask}

    def key_run(self, batch: Batch) -> Callable[[], object]:
        """Return a function that runs the prompt encoder on a batch's prompts."""
        assert isinstance(batch, EncoderBatch)
        return partial(self.prompt_encoder, input_ids=batch.ids, attention_mask=batch.mask)
