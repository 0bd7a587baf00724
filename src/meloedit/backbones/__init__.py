"""One model family behind one face: the only place, beside ``config``, that knows one kind of model from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Backbone
from .causal import CausalBackbone
from .classifier import ClassifierBackbone
from .encoder import EncoderBackbone
from .layers import Locations
from .seq2seq import Seq2SeqBackbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Backbone", "EncoderBackbone", "Locations", "open_backbone"]


def model_class(config: Any) -> Any:
    """Return the Auto class that loads the model of a configuration."""
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForSeq2SeqLM
    if any(name.endswith("ForSequenceClassification") for name in getattr(config, "architectures", None) or ()):
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForCausalLM


def open_backbone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Backbone:
    """Return the face of a causal language model, an encoder-decoder or a sequence classifier.

    Raises:
        ModelError: if the model is none of these, or its layers cannot be found.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return Seq2SeqBackbone(model, tokenizer)
    if model.get_output_embeddings() is None:
        return ClassifierBackbone(model, tokenizer)
    return CausalBackbone(model, tokenizer)
