"""What all families share: where layers are, how a prompt becomes tokens, what identifies a model."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import MeloConfig
from ..edit import Edit
from ..errors import EditError, ModelError
from ..keys.segments import Segmenter
from ..types import Form, KeyTokens, Prompt
from .batch import Batch, Encoded, Example
from .chat import ChatMarkers, Span
from .layers import (
    Locations,
    compressed,
    feed_forward_output,
    fingerprint,
    key_layer_index,
    last_layers,
    linear_names,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..keys.pooling import Pooling


class Backbone(ABC):
    """A model and its tokenizer.

    Attributes:
        stacks: name and layers of each stack, in the order they run: one, or an encoder's and a decoder's.
        documents: whether prompts are whole documents, of which none rephrases another.
        source: the module whose input is the prompt and nothing else; ``None`` where the answer follows the prompt in
            one sequence.
        stop_ids: the tokens that end an answer.
        markers: how the chat template marks turns; ``None`` without one.
        max_length: most tokens of a prompt (with its answer, where that follows); ``None``: no limit known.
        key_tokens: which of a prompt's states make its key.
        pooling: how much the state of each token weighs in a key; ``None``: all the same.

    Raises:
        ModelError: if the model is of another family, or its layers cannot be found.
    """

    stacks: list[tuple[str, nn.ModuleList]]
    documents = False
    source: nn.Module | None = None
    stop_ids: list[int]
    markers: ChatMarkers | None = None
    max_length: int | None = None
    pad_id: int
    min_similarity = 0.55
    min_target_probability = 0.98
    answer_positions = 8
    """Where settings do not say otherwise: the least similarity that may fire; how sure of its target an edit is
    trained to be; and how many tokens of an answer its block tells apart by their place."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.key_tokens: KeyTokens = "words"
        self.pooling: Pooling | None = None
        self._segmenter = Segmenter(tokenizer)
        self.forward_names = [name for name in inspect.signature(type(model).forward).parameters if name != "self"]
        generate: Any = getattr(model, "generate", None)
        self.generate_names = [name for name in inspect.signature(generate).parameters] if generate else []

    def configure(self, config: MeloConfig) -> MeloConfig:
        """Take over what settings say about prompts; return them with what they leave to the family filled in."""
        self.key_tokens = config.key_tokens
        if config.answer_positions and not self.answer_positions:
            raise ModelError(
                f"answer_positions must be 0 for {type(self.model).__name__}: its answers are not told apart by place"
            )
        answer_positions = self.answer_positions if config.mode == "default" else 0
        own: dict[str, Any] = {
            "min_similarity": self.min_similarity,
            "min_target_probability": self.min_target_probability,
            "answer_positions": answer_positions,
        }
        return replace(config, **{name: value for name, value in own.items() if getattr(config, name) is None})

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

    def locate(self, config: MeloConfig) -> Locations:
        """Choose the key layer and the edited modules: what ``config`` names is checked, the rest follows structure.

        Raises:
            ModelError: naming the modules that exist, if a name is wrong or the key layer is not below the edited ones.
        """
        try:
            return self._locate(config)
        except ModelError as error:
            if config.preset is None:
                raise
            raise ModelError(f"preset {config.preset!r} does not fit {type(self.model).__name__}: {error}") from None

    def _locate(self, config: MeloConfig) -> Locations:
        prefix, layers = self.stacks[-1]
        if config.modules is None:
            chosen = [f"{prefix}.{i}" for i in last_layers(len(layers), config.layers)]
            modules = tuple(f"{name}.{feed_forward_output(self.model.get_submodule(name), name)}" for name in chosen)
        else:
            modules = self._existing(config.modules)
        first = min(self.place_of(name) for name in modules)
        key_layer = config.key_layer
        prefix, layers = self.stacks[0]
        span = f"{prefix}.0 to .{len(layers) - 1}"
        if key_layer is None:
            top = first[1] if first[0] == 0 else len(layers)
            key_layer = f"{prefix}.{key_layer_index(len(layers), config.key_depth, top)}"
        elif key_layer not in dict(self.model.named_modules()):
            raise ModelError(f"no module {key_layer!r} to take keys from; layers: {span}")
        if self.place_of(key_layer)[0] != 0:
            raise ModelError(f"key_layer {key_layer!r} must lie where the prompt is read, in {span}")
        if self.place_of(key_layer) >= first:
            below = f"{self.stacks[first[0]][0]}.{first[1]}"
            raise ModelError(f"key_layer {key_layer!r} must lie below the first edited layer, {below}")
        if self.source is not None and first[0] < len(self.stacks) - 1 and config.reach == "answer":
            raise ModelError("blocks in the encoder act on the prompt: edit decoder modules, or set reach to 'all'")
        return Locations(key_layer, modules, first[1], first[0])

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

    def _existing(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the linear modules of some names; those that end in ``?`` need not be there."""
        names = linear_names(self.model)
        for name in wanted:
            if not name.endswith("?") and name not in names:
                found = ", ".join(compressed(names))
                raise ModelError(f"no linear module {name!r} in {type(self.model).__name__}; it has: {found}")
        kept = [name.rstrip("?") for name in wanted if name.rstrip("?") in names]
        if not kept:
            raise ModelError(f"none of the modules {', '.join(wanted)} is in {type(self.model).__name__}")
        return tuple(kept)

    # -- text to tokens and back

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` in every form the model may be asked it in."""
        return [self.encode(prompt)]

    def behind(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` behind an unrelated sentence, as a block is trained on it too, if that is of use here."""
        return []

    @abstractmethod
    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt.

        Raises:
            EditError: if it has no tokens or more than the model takes, or is not in a form that the model knows.
        """

    @abstractmethod
    def key_words(self, ids: list[int]) -> Span:
        """Return the span of a prompt's tokens that its key is taken of."""

    def segments(self, ids: Sequence[int], words: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the spans of the sentences and lines of a prompt's words, where there are several."""
        return [] if self.documents or self.key_tokens != "words" else self._segmenter(ids, *words)

    def said(self, ids: Sequence[int], words: tuple[int, int]) -> str:
        """Return the text of a span of a prompt's tokens; a key leaves the first token out, its text does not."""
        start, stop = words
        return self.decode(ids[0 if start <= 1 else start : stop])

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

    def named(self, edit: Edit) -> Edit:
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
    def batch(self, rows: Sequence[Example]) -> Batch:
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
