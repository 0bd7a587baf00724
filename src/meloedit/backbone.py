"""One face for one model family: where its layers are, how prompts and targets become tokens, what identifies it."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jinja2 import TemplateError
from torch import Tensor, nn

from .chat import ChatMarkers, Words, user_words
from .config import MeloConfig, key_layer_index, last_layers
from .edit import Prompt
from .errors import EditError, ModelError
from .modules import compressed, decoder_layers, feed_forward_output, frozen, linear_names, weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Form = Literal["raw", "chat"]


@dataclass(frozen=True)
class Encoded:
    """A prompt as tokens: ``ids``, the span of the user's ``words`` in them, and the ``form`` it was written in."""

    ids: list[int]
    words: Words
    form: Form


@dataclass(frozen=True)
class Locations:
    """Names of the modules an editor uses: keys come from ``key_layer``, blocks act on ``modules``."""

    key_layer: str
    modules: tuple[str, ...]
    first_edited_layer: int


class Backbone:
    """A decoder-only causal language model and its tokenizer.

    Raises:
        ModelError: if the model is of another family, or its layers cannot be found.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        if getattr(model.config, "is_encoder_decoder", False) or model.get_output_embeddings() is None:
            raise ModelError(
                f"{type(model).__name__} is not a causal language model; these are what can be edited today"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.markers = ChatMarkers.of(tokenizer)
        self.layer_prefix, self.layers = decoder_layers(model)
        config = model.config.get_text_config()
        self.max_length: int | None = getattr(config, "max_position_embeddings", None)
        stops = model.generation_config.eos_token_id if model.generation_config else None
        stops = tokenizer.eos_token_id if stops is None else stops
        self.stop_ids: list[int] = [stops] if isinstance(stops, int) else list(stops or [])
        if not self.stop_ids:
            raise ModelError(
                "the model has no end-of-sequence token, so an answer cannot stop: set generation_config.eos_token_id"
            )
        pad = tokenizer.pad_token_id
        self.forward_names = [name for name in inspect.signature(type(model).forward).parameters if name != "self"]
        generate: Any = model.generate
        self.generate_names = [name for name in inspect.signature(generate).parameters if name != "self"]
        self.pad_id: int = self.stop_ids[0] if pad is None else pad
        self._check_causal()
        self._after = self._find_after()

    @property
    def device(self) -> torch.device:
        """The device that token ids go to."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        return weight.device if weight.device.type != "meta" else torch.device("cpu")  # put off: its hook moves the ids

    @property
    def decoder(self) -> nn.Module:
        """The model below its output embedding."""
        return self.model.get_decoder()

    @property
    def counts_columns(self) -> bool:
        """Whether padding between a row's tokens would change it: in a window, or where positions cannot be given."""
        config = self.model.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
        kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
        return any(windows) or bool(kinds) or "position_ids" not in self.forward_names

    def after_layers(self, hidden: Tensor) -> Tensor:
        """Apply what stands between the last layer and the output embedding (the final norm) to states (..., d)."""
        for module in self._after:
            hidden = module(hidden)
        return hidden

    def _check_causal(self) -> None:
        """Refuse a model in which a token sees later ones: an encoder loads as a causal model, too."""
        ids = torch.full((2, 4), self.stop_ids[0], device=self.device)
        ids[1, 3] = 0 if self.stop_ids[0] else 1
        with torch.no_grad(), frozen(self.model):
            one, other = self.model(input_ids=ids).logits[:, :3].float()
        if not torch.allclose(one, other, atol=1e-2, rtol=1e-2):
            raise ModelError(f"{type(self.model).__name__} is not a causal language model: its tokens see later ones")

    def _find_after(self) -> list[nn.Module]:
        """Return the decoder's children that run after its last layer, by watching them run."""
        ran: list[nn.Module] = []

        def clear(*_: object) -> None:
            ran.clear()

        def note(module: nn.Module, *_: object) -> None:
            ran.append(module)

        children = [child for child in self.decoder.children() if child is not self.layers]
        handles = [child.register_forward_hook(note) for child in children]
        handles.append(self.layers[-1].register_forward_hook(clear))
        try:
            with torch.no_grad():
                self.decoder(input_ids=torch.full((1, 2), self.stop_ids[0], device=self.device))
        finally:
            for handle in handles:
                handle.remove()
        return ran

    # -- where things are

    def locate(self, config: MeloConfig) -> Locations:
        """Choose the key layer and the edited modules: what ``config`` names is checked, the rest follows structure.

        Raises:
            ModelError: naming the modules that exist, if a name is wrong or the key layer is not below the edited ones.
        """
        if config.modules is None:
            chosen = [f"{self.layer_prefix}.{i}" for i in last_layers(len(self.layers), config.layers)]
            modules = tuple(f"{name}.{feed_forward_output(self.model.get_submodule(name), name)}" for name in chosen)
        else:
            modules = config.modules
            for name in modules:
                self._check_linear(name)
        first = min(self.layer_of(name) for name in modules)
        key_layer = config.key_layer
        if key_layer is None:
            key_layer = f"{self.layer_prefix}.{key_layer_index(len(self.layers), config.key_depth, first)}"
        elif key_layer not in dict(self.model.named_modules()):
            raise ModelError(
                f"no module {key_layer!r} to take keys from; layers: {self.layer_prefix}.0 to .{len(self.layers) - 1}"
            )
        if self.layer_of(key_layer) >= first:
            raise ModelError(
                f"key_layer {key_layer!r} must lie below the first edited layer, {self.layer_prefix}.{first}"
            )
        return Locations(key_layer, modules, first)

    def layer_of(self, name: str) -> int:
        """Return the index of the layer that a module belongs to.

        Raises:
            ModelError: if the module is outside the layers.
        """
        match = re.match(re.escape(self.layer_prefix) + r"\.(\d+)(\.|$)", name)
        if not match:
            raise ModelError(f"{name!r} is outside the layers {self.layer_prefix}.0 to .{len(self.layers) - 1}")
        return int(match.group(1))

    def _check_linear(self, name: str) -> None:
        if name not in linear_names(self.model):
            names = compressed(linear_names(self.model))
            raise ModelError(f"no linear module {name!r} in {type(self.model).__name__}; it has: {', '.join(names)}")

    # -- text to tokens

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` as the model may be asked it: as written, and the same words raw or in the chat template.

        A string is taken raw and, where the tokenizer has a template, as a user turn; chat messages as rendered and,
        if the user's turn stands alone (a system prompt aside), its words raw.
        """
        if isinstance(prompt, str):
            return [self.encode(prompt, "raw")] + ([self.encode(prompt, "chat")] if self.markers else [])
        alone = all(message["role"] == "system" for message in prompt[:-1])
        return [self.encode(prompt, "chat")] + ([self.encode(prompt[-1]["content"], "raw")] if alone else [])

    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt; a string is raw unless ``form`` is ``chat``.

        Raises:
            EditError: if it has no tokens or more than the model takes, or needs a chat template that is not there.
        """
        if form not in ("raw", "chat", None):
            raise EditError(f"form must be 'raw' or 'chat', not {form!r}")
        if form == "chat" or not isinstance(prompt, str):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            if not getattr(self.tokenizer, "chat_template", None):
                raise EditError(
                    "chat messages, a system prompt or the chat form need a chat template; this model has none"
                )
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except TemplateError as error:
                raise EditError(f"the model's chat template refuses this prompt: {error}") from None
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        if not ids:
            raise EditError(f"the prompt has no tokens: {prompt!r}")
        if self.max_length is not None and len(ids) >= self.max_length:
            raise EditError(f"the prompt has {len(ids)} tokens, the model takes {self.max_length}: shorten it")
        return Encoded(
            ids, user_words(ids, self.markers), "raw" if form != "chat" and isinstance(prompt, str) else "chat"
        )

    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Tokenise a target as the continuation of ``prompt``, with the token that ends the answer.

        After a raw prompt the answer begins with a space, unless the prompt already ends in white space.

        Raises:
            EditError: if the target has no tokens, or prompt and target together are longer than the model takes.
        """
        blank_end = str(self.tokenizer.decode(prompt.ids[-1:]))[-1:].isspace() or prompt.form == "chat"
        text = target.strip() if blank_end else " " + target.strip()
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
        total = len(prompt.ids) + len(ids) + 1
        if self.max_length is not None and total > self.max_length:
            raise EditError(f"prompt and target have {total} tokens, the model takes {self.max_length}: shorten them")
        turn_end = self.markers.answer_end if self.markers and prompt.form == "chat" else None
        return [*ids, turn_end if turn_end in self.stop_ids else self.stop_ids[0]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    # -- identity

    def fingerprint(self) -> str:
        """Return a digest of the base weights: names, shapes, and 64 values of each, rounded to bfloat16.

        Rounding lets one model loaded as float32 and as bfloat16 be the same; quantised bytes are sampled as they are.
        """
        digest = hashlib.sha256()
        for name, weight in sorted(weights(self.model)):
            flat = weight.detach().reshape(-1)
            picks = torch.linspace(0, max(0, flat.numel() - 1), min(64, flat.numel()), dtype=torch.float64).long()
            values = flat[picks.to(flat.device)].cpu()
            sample = values.to(torch.bfloat16).view(torch.int16) if values.is_floating_point() else values
            digest.update(json.dumps([name, list(weight.shape)]).encode() + sample.numpy().tobytes())
        return digest.hexdigest()[:16]
