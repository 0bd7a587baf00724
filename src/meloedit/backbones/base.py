"""Backbone: what all model families share - stacks of layers, prompts to tokens, batches, a fingerprint."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..edit import Edit
from ..errors import EditError, ModelError
from ..types import Form, Prompt
from .batch import Batch, Encoded, Example
from .chat import ChatMarkers, Span
from .layers import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone(ABC):
    """A model and its tokenizer.

    Attributes:
        stacks: name and layers of each stack, in the order they run: one, or an encoder's and a decoder's.
        documents: whether prompts are whole documents, of which none rephrases another.
        prompt_encoder: the module whose input is the prompt and nothing else; ``None`` where the answer follows the
            prompt in one sequence.
        stop_ids: the tokens that end an answer.
        markers: how the chat template marks turns; ``None`` without one.
        max_length: most tokens of a prompt (with its answer, where that follows); ``None``: no limit known.

    Raises:
        ModelError: if the model is of another family, or its layers cannot be found.
    """

    stacks: list[tuple[str, nn.ModuleList]]
    documents = False
    prompt_encoder: nn.Module | None = None
    stop_ids: list[int]
    markers: ChatMarkers | None = None
    max_length: int | None = None
    pad_id: int
    defaults: Mapping[str, Any] = {"min_similarity": 0.55, "min_target_probability": 0.98, "answer_positions": 8}
    """Values of settings that ``MeloConfig`` leaves to the family."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.forward_names = [name for name in inspect.signature(type(model).forward).parameters if name != "self"]
        generate: Any = getattr(model, "generate", None)
        self.generate_names = [name for name in inspect.signature(generate).parameters] if generate else []

    @property
    def answer_follows_prompt(self) -> bool:
        """Whether prompt and answer are one sequence; else the prompt encoder reads the prompt alone."""
        return self.prompt_encoder is None

    @property
    def device(self) -> torch.device:
        """The device that token ids go to."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        return weight.device if weight.device.type != "meta" else torch.device("cpu")  # put off: its hook moves the ids

    def _end_tokens(self) -> list[int]:
        """Return the tokens that end an answer."""
        stops = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)  # a masked one has none
        stops = self.tokenizer.eos_token_id if stops is None else stops
        found = [stops] if isinstance(stops, int) else list(stops or [])
        if not found:
            raise ModelError(
                "the model has no end-of-sequence token, so an answer cannot stop: set generation_config.eos_token_id"
            )
        return found

    # -- where things are

    def place_of(self, name: str) -> tuple[int, int]:
        """Return the stack, and the index of the layer in it, that a module belongs to.

        Raises:
            ModelError: if the module is outside the layers.
        """
        for number, (prefix, _) in enumerate(self.stacks):
            if match := re.match(re.escape(prefix) + r"\.(\d+)(\.|$)", name):
                return number, int(match.group(1))
        spans = " and ".join(f"{prefix}.0 to .{len(layers) - 1}" for prefix, layers in self.stacks)
        raise ModelError(f"{name!r} is outside the layers {spans}")

    # -- text to tokens and back

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` in every form the model may be asked it in."""
        return [self.encode(prompt)]

    def behind(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` after an unrelated sentence, to train a block on that too; none where it is no use."""
        return []

    @abstractmethod
    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt.

        Raises:
            EditError: if it has no tokens or more than the model takes, or is not in a form that the model knows.
        """

    @abstractmethod
    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span of the user's own words in a prompt's tokens."""

    def prompt_end(self, ids: Sequence[int]) -> int | None:
        """Return where a prompt ends whose tokens may go on with an answer; ``None`` if nothing shows it."""
        return None

    def ids_of(self, embeddings: Tensor) -> list[list[int]] | None:
        """Return the tokens (B, L) that embeddings (B, L, d) are of; ``None`` where one is no token's."""
        table: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        if table.is_meta:
            return None
        given = embeddings.detach().to(table)
        nearest = (given @ table.T - table.square().sum(1) / 2).argmax(-1)
        return nearest.tolist() if torch.equal(table[nearest], given) else None

    @abstractmethod
    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Return the tokens (or the label) that must be said to ``prompt``, with the token that ends the answer.

        Raises:
            EditError: if the model cannot say that, or prompt and target together are longer than it takes.
        """

    def text_of(self, target: Sequence[int]) -> str:
        """Return the answer that ``encode_target`` gave the tokens of."""
        return self.decode(target[:-1]).strip()

    def as_written(self, edit: Edit) -> Edit:
        """Return an edit with its target as the model writes it."""
        return edit

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _target_ids(self, target: str, text: str) -> list[int]:
        """Tokenise the ``text`` of a target, and check that the model can write it."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise EditError(f"the target {target!r} has no tokens in this model's vocabulary")
        if special := [token for token in ids if token in (*self.stop_ids, *self.tokenizer.all_special_ids)]:
            name = self.tokenizer.convert_ids_to_tokens(special[0])
            raise EditError(f"the target {target!r} has the special token {name!r}, which is not text: leave it out")
        if self.decode(ids).split() != target.split():
            raise EditError(
                f"this model's vocabulary cannot write the target {target!r}: it comes out as {self.decode(ids)!r}"
            )
        return list(ids)

    # -- running

    def probe_inputs(self, count: int) -> dict[str, Tensor]:
        """Return what a forward call on ``count`` arbitrary tokens is given."""
        return {"input_ids": torch.full((1, count), (*self.stop_ids, self.pad_id)[0], device=self.device)}

    @abstractmethod
    def pad(self, rows: Sequence[Example]) -> Batch:
        """Pad rows, in their order, into one batch."""

    @abstractmethod
    def pack(self, rows: Sequence[Example], size: int) -> list[tuple[list[int], Batch]]:
        """Pack rows into padded batches of ``size`` at most; return row numbers and batch of each."""

    @abstractmethod
    def key_run(self, batch: Batch) -> Callable[[], object]:
        """Return a function that runs the model once on a batch of prompts, at least up to the key layer."""

    @abstractmethod
    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Return, per row, the answer's text and how many tokens were generated (the end token aside)."""

    @abstractmethod
    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (T, vocabulary) that predict each row's target."""

    def _until_stop(self, made: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Return text and length of generated rows, each up to its end token."""
        ends = [next((k for k, token in enumerate(row) if token in self.stop_ids), len(row)) for row in made]
        return [(self.decode(row[:end]).strip(), end) for row, end in zip(made, ends, strict=True)]

    # -- identity

    def fingerprint(self) -> str:
        """Return a digest of the base weights, the same for one model loaded as float32 and as bfloat16."""
        return fingerprint(self.model)
