"""Model families behind one interface: what differs from one kind of Hugging Face model to another stands here.

To add a family, write a subclass of ``Backbone`` in a file here, or of ``EncoderBackbone`` if an encoder reads the
prompt alone. Then let ``open_backbone`` and ``model_class`` choose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Backbone
from .causal import CausalBackbone
from .classifier import ClassifierBackbone
from .encoder import EncoderBackbone
from .locations import Locations, locate
from .seq2seq import Seq2SeqBackbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Backbone", "EncoderBackbone", "Locations", "locate", "model_class", "open_backbone"]


def model_class(config: Any) -> Any:
    """Return the Auto class that loads the model of a configuration."""
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForSeq2SeqLM
    if any(name.endswith("ForSequenceClassification") for name in getattr(config, "architectures", None) or ()):
        return transformers.AutoModelForSequenceClassification
    sees = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if sees and type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def open_backbone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, document_tokens: int | None = None
) -> Backbone:
    """Return the ``Backbone`` of a causal language model, an encoder-decoder or a sequence classifier.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        document_tokens: a classifier's texts are cut to this many tokens; ``None``: to the model's limit.

    Raises:
        ModelError: if the model is none of these, or its structure is unknown.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return Seq2SeqBackbone(model, tokenizer)
    if model.get_output_embeddings() is None:
        return ClassifierBackbone(model, tokenizer, document_tokens)
    return CausalBackbone(model, tokenizer)
