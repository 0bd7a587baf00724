"""A small model of a large one's kind and tokenizer: a copy with fewer layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .base import Backbone


def kept_layers(count: int, most: int) -> list[int]:
    """Return the numbers of the layers that a copy keeps: the first ones, and the last one, which the output reads."""
    return list(range(count)) if count <= most else [*range(most - 1), count - 1]


def shortened(backbone: Backbone, most: int) -> PreTrainedModel:
    """Return a copy of a model with at most ``most`` layers in each stack; it shares no weight with the model."""
    with _without_layers(backbone, most):
        model = deepcopy(backbone.model)
    for prefix, _ in backbone.stacks:
        for number, layer in enumerate(model.get_submodule(prefix).children()):
            parts: Iterator[Any] = layer.modules()
            for part in parts:
                if hasattr(part, "layer_idx"):  # where its keys and values are in a cache
                    part.layer_idx = number
    if len(backbone.stacks) == 1:
        config = model.config.get_text_config()
        chosen = kept_layers(len(backbone.stacks[0][1]), most)
        config.num_hidden_layers = len(chosen)
        if (kinds := getattr(config, "layer_types", None)) is not None:
            config.layer_types = [kinds[i] for i in chosen]
    return model


@contextmanager
def _without_layers(backbone: Backbone, most: int) -> Iterator[None]:
    """Take the layers that a copy does not keep out of the model for a moment, so that they are not copied."""
    try:
        for prefix, layers in backbone.stacks:
            kept = nn.ModuleList(layers[i] for i in kept_layers(len(layers), most))
            backbone.model.set_submodule(prefix, kept)
        yield
    finally:
        for prefix, layers in backbone.stacks:
            backbone.model.set_submodule(prefix, layers)
