"""The models that benchmarks run on: named ones, or random weights in the shape of a larger model.

Time and memory do not depend on the values of the weights. So the speed of a model with 8 billion parameters can be
measured without its weights; its answers mean nothing.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from meloedit.backbones.loading import DEMO_MODEL, load_model

from .options import positive

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]

SHAPES: dict[str, dict[str, int]] = {
    "random-tiny": {"hidden_size": 64, "intermediate_size": 128, "layers": 10, "heads": 4, "kv_heads": 2},
    "random-1b": {"hidden_size": 2048, "intermediate_size": 8192, "layers": 16, "heads": 32, "kv_heads": 8},
    "random-8b": {"hidden_size": 4096, "intermediate_size": 14336, "layers": 32, "heads": 32, "kv_heads": 8},
}
"""Shapes of Llama models. They use the demo model's tokenizer and vocabulary."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the model, its device and its dtype."""
    parser.add_argument("--model", default=DEMO_MODEL, help=f"a folder, a hub name, {', '.join(SHAPES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="such as bfloat16; default: the dtype that the model is stored in")
    parser.add_argument("--threads", type=positive, default=1)


def load(given: argparse.Namespace) -> Loaded:
    """Load a copy of the model that the options name."""
    if given.model not in SHAPES:
        model, tokenizer = load_model(given.model, **({"dtype": given.dtype} if given.dtype else {}))
        return model.to(given.device), tokenizer
    shape, (demo, tokenizer) = SHAPES[given.model], load_model(DEMO_MODEL)
    config = LlamaConfig(
        vocab_size=demo.config.vocab_size,
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=8192,
        eos_token_id=demo.config.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device(given.device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, given.dtype or "float32"))
    model.generation_config = demo.generation_config
    return model.eval(), tokenizer


def described(given: argparse.Namespace) -> dict[str, Any]:
    """Return model, device and dtype for the result's provenance."""
    device = torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else given.device
    return {"model": given.model, "device": device, "dtype": given.dtype or "as stored"}
