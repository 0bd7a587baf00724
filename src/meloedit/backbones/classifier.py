"""Sequence classifiers: the prompt is a text, often a whole document, and the answer is one of the model's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edit import Edit
from ..errors import EditError, ModelError
from .batch import Batch, Encoded, EncoderBatch, Example
from .contexts import own_run
from .encoder import EncoderBackbone
from .layers import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def _positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens have a position. RoBERTa's tables begin after a row for padding, which does not count."""
    total = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    offsets = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return total if total is None else total - max(offsets, default=0)


class ClassifierBackbone(EncoderBackbone):
    """A sequence classifier and its tokenizer.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        document_tokens: texts are cut to this many tokens; ``None``: to the model's limit.

    Attributes:
        labels: the names of the classes, in the order of their logits.
    """

    documents = True
    # The judge reads questions: documents are compared by their keys alone.
    defaults: Mapping[str, Any] = {**EncoderBackbone.defaults, "judge": "none"}

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, document_tokens: int | None = None
    ) -> None:
        super().__init__(model, tokenizer)
        self.prompt_encoder = model
        self.stacks = [decoder_layers(model)]
        self.stop_ids = []
        pad = tokenizer.pad_token_id
        self.pad_id = 0 if pad is None else pad
        config = model.config
        limits = (_positions(model), tokenizer.model_max_length)
        self.max_length = min((n for n in limits if n is not None and n < 10**9), default=None)
        self._cut = min((n for n in (self.max_length, document_tokens) if n is not None), default=None)
        names: Any = config.id2label
        self.labels: list[str] = [str(names[i]) for i in range(config.num_labels or 0)]
        kind = getattr(config, "problem_type", None)
        if len(self.labels) < 2 or kind in ("regression", "multi_label_classification"):
            raise ModelError(f"{type(model).__name__} does not choose one of several labels; only such can be edited")
        with own_run(model):
            logits = getattr(model(input_ids=torch.full((1, 4), self.pad_id, device=self.device)), "logits", None)
        if logits is None or logits.shape != (1, len(self.labels)):
            raise ModelError(
                f"{type(model).__name__} is neither a causal language model nor an encoder-decoder nor a sequence "
                "classifier; these can be edited"
            )

    def _prompt_ids(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt, truncation=self._cut is not None, max_length=self._cut)["input_ids"])

    def label(self, target: str) -> int:
        """Return the number of a label, given by name or by number.

        Raises:
            EditError: if there is no such label; the message lists all labels.
        """
        name = target.strip()
        if name in self.labels:
            return self.labels.index(name)
        if name.isascii() and name.isdigit() and int(name) < len(self.labels):
            return int(name)
        listed = ", ".join(f"{i} {label}" for i, label in enumerate(self.labels))
        raise EditError(f"{type(self.model).__name__} has no label {target!r}; its labels are: {listed}")

    def as_written(self, edit: Edit) -> Edit:
        """Return an edit whose target is the label's name."""
        name = self.labels[self.label(edit.target)]
        return edit if edit.target == name else replace(edit, target=name)

    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Return the label's number, as a target of one token."""
        return [self.label(target)]

    def text_of(self, target: Sequence[int]) -> str:
        """Return the label's name."""
        return self.labels[target[0]]

    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Return the label with the greatest logit; nothing is generated."""
        assert isinstance(batch, EncoderBatch)
        logits = self.model(**self.inputs(batch)).logits
        return [(self.labels[number], 0) for number in logits.argmax(1).tolist()]

    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (1, labels) of each."""
        return list(self.model(**self.inputs(self.pad(rows))).logits[:, None])
