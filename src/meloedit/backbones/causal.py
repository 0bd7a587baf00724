"""Decoder-only causal language models: prompt and answer in one sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ..edit import prompt_text
from ..errors import EditError, ModelError
from ..messages import begun
from ..types import Begun, Form, Prompt
from .base import Backbone
from .batch import Batch, CausalBatch, Encoded, EncoderBatch, Example, batches
from .chat import BegunAnswer, ChatMarkers, Span, opens_bare, place_in_answer, reason, user_span
from .contexts import own_run, record_calls
from .decoder_runs import prefill_shared, run_decoder
from .layers import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class CausalBackbone(Backbone):
    """A decoder-only causal language model and its tokenizer.

    Attributes:
        only_keys_and_values: whether keys and values are all that a layer keeps of the tokens before. A state-space
            mixer or a convolution keeps a state, which cannot be taken back to an earlier token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        self.markers = ChatMarkers.of(tokenizer)
        self.stacks = [decoder_layers(model)]
        self.layers = self.stacks[0][1]
        self.max_length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.stop_ids = self._end_tokens()
        self.pad_id = self.stop_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._check_causal()
        self._after, self.only_keys_and_values = self._follow_decoder()

    @property
    def decoder(self) -> nn.Module:
        """The model below its output embedding."""
        decoder: nn.Module = self.model.get_decoder()
        # A class whose own name for the decoder transformers does not know returns itself.
        return decoder if decoder is not self.model else self.model.get_submodule(self.stacks[0][0].rpartition(".")[0])

    @property
    def counts_columns(self) -> bool:
        """Whether padding between a row's tokens would change its output.

        It would in a sliding window, where a layer keeps a state, and in a model that takes no position ids.
        """
        config = self.model.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
        kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
        moved = any(windows) or bool(kinds) or "position_ids" not in self.forward_names
        return moved or not self.only_keys_and_values

    @property
    def rows_can_join(self) -> bool:
        """Whether a prompt can join answers under way in one batch: padding on its left would not change its output.

        It would where a layer keeps a state, where a model counts positions by itself, and where the columns that a
        token sees are cut into chunks.
        """
        chunked = getattr(self.model.config.get_text_config(), "attention_chunk_size", None)
        return self.only_keys_and_values and not chunked and "position_ids" in self.forward_names

    def after_layers(self, hidden: Tensor) -> Tensor:
        """Apply the modules between the last layer and the output embedding (the final norm) to states (..., d)."""
        for module in self._after:
            hidden = module(hidden)
        return hidden

    def _check_causal(self) -> None:
        """Refuse a model whose tokens see later ones: transformers loads encoders as causal models, too."""
        ids = torch.full((2, 4), self.stop_ids[0], device=self.device)
        ids[1, 3] = 0 if self.stop_ids[0] else 1
        with own_run(self.model):
            one, other = self.model(input_ids=ids).logits[:, :3].float()
        if one.is_meta:  # no numbers to compare
            return
        if not torch.allclose(one, other, atol=1e-2, rtol=1e-2):
            raise ModelError(f"{type(self.model).__name__} is not a causal language model: its tokens see later ones")

    def _follow_decoder(self) -> tuple[list[nn.Module], bool]:
        """Return, from a recorded call, what runs after the last layer, and whether layers keep only keys and values.

        What runs after it is a list of children of the decoder.

        Raises:
            ModelError: if the model's cache does not say how many tokens it has seen, which a route goes by.
        """
        last = self.layers[-1]
        children = [child for child in self.decoder.children() if child is not self.layers]
        with own_run(self.model), record_calls([*children, last]) as calls:
            ids = torch.full((1, 2), self.stop_ids[0], device=self.device)
            cache = getattr(self.decoder(input_ids=ids, use_cache=True), "past_key_values", None)
        if not isinstance(cache, Cache) or cache.get_seq_length() != 2:
            raise ModelError(f"the cache of {type(self.model).__name__} does not count tokens, which a route goes by")
        after: list[nn.Module] = []
        for call in calls:
            after = [] if call.module is last else [*after, call.module]
        kinds = (DynamicLayer, DynamicSlidingWindowLayer)  # not a subclass, which may keep a state beside them
        seen = [layer.get_seq_length() for layer in cache.layers if isinstance(layer, kinds) and type(layer) in kinds]
        return after, seen == [2] * len(self.layers)

    # -- text to tokens

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` as given, and the same text in the other form if there is one.

        A string gives raw text and, if the tokenizer has a chat template, a user turn. Chat messages give the rendered
        chat and, if the user's turn is the only one beside system prompts, its text raw.
        """
        if isinstance(prompt, str):
            return [self.encode(prompt, "raw")] + ([self.encode(prompt, "chat")] if self.markers else [])
        alone = all(message["role"] == "system" for message in prompt[:-1])
        return [self.encode(prompt, "chat")] + ([self.encode(prompt[-1]["content"], "raw")] if alone else [])

    def with_lead_in(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return the prompt's text after the sentence ``lead``, raw; nothing for a chat of several messages.

        Nothing either if the model does not take that many tokens.
        """
        if isinstance(prompt, list) and len(prompt) > 1:
            return []
        try:
            return [self.encode(f"{lead} {prompt_text(prompt)}", "raw")]
        except EditError:  # too long
            return []

    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt; a string is raw unless ``form`` is ``chat``.

        Raises:
            EditError: if the prompt has no tokens or too many, or needs a chat template that the model lacks.
        """
        if form not in ("raw", "chat", None):
            raise EditError(f"form must be 'raw' or 'chat', not {form!r}")
        if form == "chat" or not isinstance(prompt, str):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            if not getattr(self.tokenizer, "chat_template", None):
                raise EditError(
                    "chat messages, a system prompt or the chat form need a chat template; this model has none"
                )
            ids = self.tokenizer(self._rendered(messages), add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        if not ids:
            raise EditError(f"the prompt has no tokens: {prompt!r}")
        if self.max_length is not None and len(ids) >= self.max_length:
            raise EditError(f"the prompt has {len(ids)} tokens, the model takes {self.max_length}: shorten it")
        return Encoded(ids, self.user_span(ids), "raw" if form != "chat" and isinstance(prompt, str) else "chat")

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        """Return messages in the chat template, up to where the model goes on."""
        goes_on = begun(messages)
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
            )
        # A template is a program: a TypeError comes where a tool call is not as it expects it, a ValueError where it
        # changes the answer to go on with.
        except Exception as error:
            raise EditError(f"the model's chat template refuses this prompt: {reason(error)}") from None
        return str(text)

    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span of the user's text; of the whole prompt if no template shows it."""
        return user_span(ids, self.markers)

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of a conversation's turns before the token ``stop``."""
        return self.markers.turns_before(ids, stop) if self.markers else []

    def prompt_end(self, ids: Sequence[int]) -> int | None:
        """Return where the prompt ends and an answer begins, by the chat template; ``None`` if that does not show."""
        return self.markers.prompt_end(ids, self.user_span(ids).stop) if self.markers else None

    def after_tools(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the user's last turn."""
        return self.markers is not None and self.markers.has_result(ids)

    def place_in(self, target: str, begun: Begun) -> BegunAnswer:
        """Return where in a target an answer goes on that a caller has begun."""
        return place_in_answer(
            begun,
            target.strip(),
            self._answer_end,
            lambda text: list(self.tokenizer(text, add_special_tokens=False)["input_ids"]),
            lambda ids: str(self.tokenizer.decode(list(ids))),
        )

    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Tokenise a target as the continuation of ``prompt``, with the token that ends the answer.

        After a raw prompt the answer begins with a space, unless the prompt already ends in white space.

        Raises:
            EditError: if the target has no tokens, or prompt and target together are too long for the model.
        """
        return self._encode_target(target, prompt, self._bare(prompt))

    def _encode_target(self, target: str, prompt: Encoded, bare: bool) -> list[int]:
        ids = self._target_ids(target, target.strip() if bare else " " + target.strip())
        if self.max_length is not None and (total := len(prompt.ids) + len(ids) + 1) > self.max_length:
            raise EditError(f"prompt and target have {total} tokens, the model takes {self.max_length}: shorten them")
        return [*ids, self._answer_end if prompt.form == "chat" else self.stop_ids[0]]

    def _bare(self, prompt: Encoded) -> bool:
        return prompt.form == "chat" or self.begins_bare(prompt.ids, begun=False)

    def row(self, target: str, prompt: Encoded, beginning: str = "") -> Example:
        """Return a prompt and its target as a row to train a block on; in a chat maybe behind a begun answer."""
        bare = self._bare(prompt)
        if beginning:
            ids = self.tokenizer(beginning, add_special_tokens=False)["input_ids"]
            bare, prompt = self.begins_bare(ids, begun=True), replace(prompt, ids=[*prompt.ids, *ids])
        row = Example.of(prompt, self._encode_target(target, prompt, bare))
        places, other = self.first_places(target), -1
        if beginning and places[0] == places[1]:
            other = self._encode_target(target, prompt, not bare)[0]
        return replace(row, place=places[bare], other=other)

    def begins_bare(self, ids: Sequence[int], begun: bool) -> bool:
        """Return whether an answer behind these tokens begins without a blank.

        It does behind white space and special tokens; in a begun answer as ``opens_bare`` says.
        """
        if begun:
            return opens_bare(str(self.tokenizer.decode(list(ids))))
        last = self.decode(ids[-1:])
        return not last or last[-1:].isspace()

    def first_places(self, target: str) -> tuple[int, int]:
        """Return the answer position of a target's first token: where it begins with a blank, and where it is bare.

        Where the blank is a token of its own, as before digits, all others have the same places both ways: or a block
        would have to say two tokens at one place, and digits come twice. Other targets begin at the first place.
        """
        text = target.strip()
        blank, bare = (list(self.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (" " + text, text))
        return 0, len(blank) - len(bare) if blank[-len(bare) :] == bare else 0

    @property
    def _answer_end(self) -> int:
        """The token that ends an answer in a chat."""
        turn_end = self.markers.answer_end if self.markers else None
        return turn_end if turn_end in self.stop_ids else self.stop_ids[0]

    # -- running

    def pad(self, rows: Sequence[Example]) -> Batch:
        """Pad rows, in their order, into one batch."""
        return CausalBatch.of(rows, self.pad_id, self.device)

    def pack(self, rows: Sequence[Example], size: int) -> list[tuple[list[int], Batch]]:
        """Pack rows into batches; rows with the same template prefix go together, so that it is computed once."""
        # Padding follows a shared prefix, so none is shared where padding between tokens changes the output.
        return batches(rows, self.pad_id, self.device, size, share=not self.counts_columns)

    def key_run(self, batch: Batch) -> Callable[[], object]:
        """Run the shared prefix of a batch's prompts, and return a function that runs the rest."""
        if isinstance(batch, EncoderBatch):
            return partial(self.model, input_ids=batch.ids, attention_mask=batch.mask)
        return partial(run_decoder, self, batch, batch.shared_prefix, None, prefill_shared(self, batch))

    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Generate after each prompt."""
        assert isinstance(batch, CausalBatch)
        width = batch.ids.shape[1]
        room = settings["max_new_tokens"] if self.max_length is None else self.max_length - width
        generate: Any = self.model.generate
        limits = {"max_new_tokens": min(settings["max_new_tokens"], room)}
        generated = generate(batch.ids, attention_mask=batch.mask, **dict(settings) | limits)
        return self._until_stop(generated[:, width:].tolist())

    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (T, vocabulary) that predict each row's target."""
        width = max(len(row.prompt) + len(row.target) - 1 for row in rows)
        ids, mask = torch.full((len(rows), width), self.pad_id), torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.tensor([*row.prompt, *row.target[:-1]])
            ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
        first = min(len(row.prompt) for row in rows) - 1
        logits_range = {"logits_to_keep": torch.arange(first, width)} if "logits_to_keep" in self.forward_names else {}
        inputs: dict[str, Any] = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        logits = self.model(**inputs, **logits_range, use_cache=False).logits
        starts = [len(row.prompt) - 1 - (first if logits_range else 0) for row in rows]
        return [logits[i, start : start + len(rows[i].target)] for i, start in enumerate(starts)]
