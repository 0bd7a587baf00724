"""Backbone: the interface of a model family, which reads prompts (``prompts/``), pads batches, and runs the model."""

from __future__ import annotations

import inspect
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..callers.precision import exact
from ..errors import ModelError
from .batch import Batch, Example
from .layers import fingerprint
from .prompts.reader import PromptReader, end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone(PromptReader):
    """A model and its tokenizer.

    Attributes:
        stacks: name and layers of each stack, in the order they run: one, or an encoder's and a decoder's.
        prompt_encoder: the module that reads the prompt alone; ``None`` if the answer follows the prompt in one
            sequence.
        pad_id: the token that fills padded columns.

    Raises:
        ModelError: if the model is not of the family, or its structure is unknown.
    """

    stacks: list[tuple[str, nn.ModuleList]]
    prompt_encoder: nn.Module | None = None
    pad_id: int

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.forward_names = [name for name in inspect.signature(type(model).forward).parameters if name != "self"]
        generate: Any = getattr(model, "generate", None)
        self.generate_names = [name for name in inspect.signature(generate).parameters] if generate else []

    @property
    def answer_follows_prompt(self) -> bool:
        """Whether prompt and answer are one sequence. If not, the prompt encoder reads the prompt alone."""
        return self.prompt_encoder is None

    @property
    def device(self) -> torch.device:
        """The device that token ids go to."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        # A "meta" weight was offloaded by accelerate, whose hook moves the ids to the device that computes.
        return weight.device if weight.device.type != "meta" else torch.device("cpu")

    def _end_tokens(self) -> list[int]:
        """Return the tokens that end an answer."""
        # A masked language model has no generation_config.
        stops = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        return end_tokens(stops, self.tokenizer)

    # -- layers

    def layer_of(self, name: str) -> tuple[int, int]:
        """Return the number of the stack that a module is in, and the index of its layer in that stack.

        Raises:
            ModelError: if the module is outside the layers.
        """
        for number, (prefix, _) in enumerate(self.stacks):
            if match := re.match(re.escape(prefix) + r"\.(\d+)(\.|$)", name):
                return number, int(match.group(1))
        spans = " and ".join(f"{prefix}.0 to .{len(layers) - 1}" for prefix, layers in self.stacks)
        raise ModelError(f"{name!r} is outside the layers {spans}")

    def ids_of(self, embeddings: Tensor) -> list[list[int]] | None:
        """Return the tokens (B, L) that have these embeddings (B, L, d); ``None`` if one belongs to no token."""
        table: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        if table.is_meta:
            return None
        given = embeddings.detach().to(table)
        with exact(table.device):
            nearest = (given @ table.T - table.square().sum(1) / 2).argmax(-1)
        return nearest.tolist() if torch.equal(table[nearest], given) else None

    # -- running

    def probe_inputs(self, count: int) -> dict[str, Tensor]:
        """Return the arguments of a forward call on ``count`` arbitrary tokens."""
        return {"input_ids": torch.full((1, count), (*self.stop_ids, self.pad_id)[0], device=self.device)}

    @abstractmethod
    def pad(self, rows: Sequence[Example]) -> Batch:
        """Pad rows, in their order, into one batch."""

    @abstractmethod
    def pack(self, rows: Sequence[Example], size: int) -> list[tuple[list[int], Batch]]:
        """Pack rows into padded batches of at most ``size`` rows; return each batch with its row numbers."""

    @abstractmethod
    def key_run(self, batch: Batch) -> Callable[[], object]:
        """Return a function that runs the model on a batch of prompts, at least up to the key layer."""

    @abstractmethod
    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Generate; return per row the answer's text and its number of tokens, the end token not counted."""

    @abstractmethod
    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (T, vocabulary) that predict each row's target."""

    def narrow_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Return what ``target_logits`` does, up to rounding; the output embedding reads those positions alone."""
        return self.target_logits(rows)

    def _until_stop(self, generated: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Return text and number of tokens of generated rows, each up to its end token."""
        ends = [next((k for k, token in enumerate(row) if token in self.stop_ids), len(row)) for row in generated]
        return [(self.decode(row[:end]).strip(), end) for row, end in zip(generated, ends, strict=True)]

    # -- fingerprint

    def fingerprint(self) -> str:
        """Return a hash of the base weights; the same whether the model was loaded as float32 or as bfloat16."""
        return fingerprint(self.model)
