"""Encoder-decoders (T5 and the like): the encoder reads the prompt, the decoder writes the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import EditError, ModelError
from .batch import Batch, Encoded, EncoderBatch, Example
from .encoder import EncoderBackbone, layer_list

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Seq2SeqBackbone(EncoderBackbone):
    """An encoder-decoder and its tokenizer. Keys come from the encoder; by default the decoder is edited."""

    # Blocks trained to 0.98 answered 0.90 of the rephrasings that reached them, to 0.9999 0.97 of them (a T5 of 11 M
    # parameters, 120 zsRE edits; a trial without a script).
    defaults: Mapping[str, Any] = {**EncoderBackbone.defaults, "min_target_probability": 0.9999}

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        if model.get_output_embeddings() is None:
            raise ModelError(f"{type(model).__name__} does not generate text: load it as AutoModelForSeq2SeqLM")
        self.prompt_encoder = model.get_encoder()
        self.stacks = [layer_list(model, part) for part in (self.prompt_encoder, model.get_decoder())]
        self.stop_ids = self._end_tokens()
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None and model.generation_config:
            start = model.generation_config.decoder_start_token_id
        if start is None:
            raise ModelError("the model has no decoder_start_token_id, so an answer cannot begin: set it in its config")
        self.start_id = int(start)
        forced = model.generation_config.forced_bos_token_id if model.generation_config else None
        self._first = [] if forced is None else [int(forced)]  # generate puts it before every answer
        self.pad_id = self.stop_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # Learned positions limit the length, relative ones do not. The tokenizer may know the length used in training.
        limits = (getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
        self.max_length = min((n for n in limits if n is not None and n < 10**9), default=None)

    def probe_inputs(self, count: int) -> dict[str, Tensor]:
        """Return arbitrary tokens for the encoder and for the decoder."""
        inputs = super().probe_inputs(count)
        return inputs | {"decoder_input_ids": inputs["input_ids"]}

    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Tokenise a target as the whole output of the decoder."""
        ids = [*self._first, *self._target_ids(target, target.strip()), self.stop_ids[0]]
        if self.max_length is not None and len(ids) > self.max_length:
            raise EditError(f"the target has {len(ids)} tokens, the model takes {self.max_length}: shorten it")
        return ids

    def inputs(self, batch: EncoderBatch) -> dict[str, Any]:
        """Return the encoder's input, the prompts, and the decoder's: start token and target without its last token."""
        ids = torch.full((len(batch.rows), batch.width), self.pad_id)
        for i, row in enumerate(batch.rows):
            tokens = [self.start_id, *row.target[:-1]]
            ids[i, : len(tokens)] = torch.tensor(tokens)
        return super().inputs(batch) | {"decoder_input_ids": ids.to(batch.ids.device), "use_cache": False}

    def answer(self, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Generate each prompt's answer."""
        assert isinstance(batch, EncoderBatch)
        generate: Any = self.model.generate
        generated = generate(batch.ids, attention_mask=batch.mask, **settings)
        return self._until_stop(generated[:, 1:].tolist())

    def target_logits(self, rows: Sequence[Example]) -> list[Tensor]:
        """Run rows, padded on the right, and return the logits (T, vocabulary) that predict each row's target."""
        logits = self.model(**self.inputs(self.pad(rows))).logits
        return [logits[i, : len(row.target)] for i, row in enumerate(rows)]
