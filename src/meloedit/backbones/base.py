"""Backbone: the interface of a model family, which turns text into tokens, pads batches, and runs the model."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..callers.precision import exact
from ..edit import Edit
from ..errors import EditError, ModelError
from ..types import Begun, Form, Prompt
from .batch import Batch, Encoded, Example
from .chat import BegunAnswer, ChatMarkers, Span
from .layers import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone(ABC):
    """A model and its tokenizer.

    Attributes:
        stacks: name and layers of each stack, in the order they run: one, or an encoder's and a decoder's.
        documents: whether prompts are whole documents; then no prompt is a rephrasing of another.
        prompt_encoder: the module that reads the prompt alone; ``None`` if the answer follows the prompt in one
            sequence.
        stop_ids: the tokens that end an answer.
        markers: the tokens by which the chat template marks turns; ``None`` without a template.
        max_length: the most tokens that a prompt may have, with its answer if that follows in one sequence;
            ``None``: no limit is known.
        pad_id: the token that fills padded columns.

    Raises:
        ModelError: if the model is not of the family, or its structure is unknown.
    """

    stacks: list[tuple[str, nn.ModuleList]]
    documents = False
    prompt_encoder: nn.Module | None = None
    stop_ids: list[int]
    markers: ChatMarkers | None = None
    max_length: int | None = None
    pad_id: int
    defaults: Mapping[str, Any] = {
        "judge": "built-in",
        "min_similarity": 0.55,
        "min_target_probability": 0.98,
        "answer_positions": 8,
        "rewordings": 4,
    }
    """Values of the settings that are ``None`` in ``MeloConfig``: each family has its best ones."""

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
        stops = self.tokenizer.eos_token_id if stops is None else stops
        stop_ids = [stops] if isinstance(stops, int) else list(stops or [])
        if not stop_ids:
            raise ModelError(
                "the model has no end-of-sequence token, so an answer cannot stop: set generation_config.eos_token_id"
            )
        return stop_ids

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

    # -- text to tokens and back

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` in every form in which a user may send it: raw, and in a chat if there is a template."""
        return [self.encode(prompt)]

    def with_lead_in(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return the forms of ``prompt`` after the unrelated sentence ``lead``, as further training rows.

        The list is empty if the family does not train on such rows, or the prompt does not allow it.
        """
        return []

    @abstractmethod
    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt.

        Raises:
            EditError: if the prompt has no tokens or too many, or the model has no such form.
        """

    @abstractmethod
    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span of the user's text in a prompt's tokens; the rest is the chat template's."""

    def prompt_end(self, ids: Sequence[int]) -> int | None:
        """Return where the prompt ends in ``ids``, which may contain an answer too; ``None`` if nothing shows it."""
        return None

    def after_tools(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the user's last turn; never by default."""
        return False

    def place_in(self, target: str, begun: Begun) -> BegunAnswer:
        """Return where in a target an answer goes on that a caller has begun: at its beginning by default."""
        return BegunAnswer()

    def ids_of(self, embeddings: Tensor) -> list[list[int]] | None:
        """Return the tokens (B, L) that have these embeddings (B, L, d); ``None`` if one belongs to no token."""
        table: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        if table.is_meta:
            return None
        given = embeddings.detach().to(table)
        with exact(table.device):
            nearest = (given @ table.T - table.square().sum(1) / 2).argmax(-1)
        return nearest.tolist() if torch.equal(table[nearest], given) else None

    @abstractmethod
    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Return the tokens that the model must answer to ``prompt``, the end token included; or the label's number.

        Raises:
            EditError: if the model cannot write the target, or prompt and target together are too long for it.
        """

    def row(self, target: str, prompt: Encoded, beginning: str = "") -> Example:
        """Return a prompt and its target as a row to train a block on.

        Args:
            target: the target.
            prompt: the prompt.
            beginning: the beginning of an answer behind it, in a chat.

        Raises:
            EditError: as ``encode_target`` does.
        """
        return Example.of(prompt, self.encode_target(target, prompt))

    def begins_bare(self, ids: Sequence[int], begun: bool) -> bool:
        """Return whether an answer behind these tokens begins without a blank, by default never.

        Args:
            ids: the tokens before it.
            begun: whether they are an answer that a caller has begun.
        """
        return False

    def first_places(self, target: str) -> tuple[int, int]:
        """Return the answer position of a target's first token: where it begins with a blank, and where it is bare."""
        return 0, 0

    def text_of(self, target: Sequence[int]) -> str:
        """Return the text of a target's tokens: the reverse of ``encode_target``."""
        return self.decode(target[:-1]).strip()

    def as_written(self, edit: Edit) -> Edit:
        """Return an edit with its target as the model writes it: a classifier's label by name."""
        return edit

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of a conversation's turns before the token ``stop``; none by default."""
        return []

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

    def _until_stop(self, generated: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Return text and number of tokens of generated rows, each up to its end token."""
        ends = [next((k for k, token in enumerate(row) if token in self.stop_ids), len(row)) for row in generated]
        return [(self.decode(row[:end]).strip(), end) for row, end in zip(generated, ends, strict=True)]

    # -- fingerprint

    def fingerprint(self) -> str:
        """Return a hash of the base weights; the same whether the model was loaded as float32 or as bfloat16."""
        return fingerprint(self.model)
