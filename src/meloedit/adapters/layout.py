"""Layout: what the folder of one adapter holds, and the name that its content gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..files import canonical_json

if TYPE_CHECKING:
    from ..store.tensors import Tensors

Kind = Literal["peft", "alora", "fused"]
"""``peft``: a LoRA that acts on every token; ``alora``: PEFT's activated LoRA, which acts from a token on; ``fused``: a
LoRA made of several edits."""

CONFIG, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "meloedit.json"
PREFIX = "melo-"
"""How the names of adapters begin."""
DIGITS = 16
FORMAT = 1
"""The format of manifests and of the index."""


@dataclass(frozen=True)
class Adapter:
    """An adapter that is about to be written.

    Attributes:
        name: the name of its folder, which its content gives it.
        rank: its rank.
        files: the content of each file by name.
        manifest: the SHA-256 of the manifest among them.
    """

    name: str
    rank: int
    files: dict[str, bytes]
    manifest: str


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def modules_of(block: Mapping[str, Any]) -> list[str]:
    """Return the modules of a block as a store has it, sorted."""
    return sorted({name.rpartition(".")[0] for name in block})


def adapter_name(block: Tensors, invocation: int | None = None) -> str:
    """Return the name of the adapter that a block becomes: a hash of its numbers.

    So an edit whose wordings change keeps its adapter, and whoever has the block knows what the adapter is called.

    Args:
        block: the factors ``MODULE.A`` and ``MODULE.B`` in float16.
        invocation: the token from which an activated LoRA acts; ``None``: it acts on every token.
    """
    digest = hashlib.sha256(canonical_json(["lora", invocation]).encode())
    for name in sorted(block):
        factor = block[name].contiguous()
        digest.update(canonical_json([name, list(factor.shape), str(factor.dtype)]).encode())
        digest.update(factor.cpu().numpy().tobytes())
    return PREFIX + digest.hexdigest()[:DIGITS]


def make_adapter(
    block: Tensors, model: Mapping[str, Any], kind: Kind = "peft", invocation: int | None = None, prefix: str = ""
) -> Adapter:
    """Return the adapter of a block.

    The scale is 1 (alpha = rank), and the numbers stay in float16, as they are stored and were checked.

    Args:
        block: the factors ``MODULE.A`` (rank, in) and ``MODULE.B`` (out, rank).
        model: what the store says of its model.
        kind: what kind of adapter.
        invocation: the token from which an activated LoRA acts.
        prefix: put before the name.
    """
    from safetensors.torch import save

    modules = modules_of(block)
    rank = len(block[f"{modules[0]}.A"])
    tensors = {weight_name(name): factor.cpu().contiguous() for name, factor in sorted(block.items())}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.get("name"),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    if invocation is not None:
        config["alora_invocation_tokens"] = [invocation]
    files = {CONFIG: as_json(config), WEIGHTS: save(tensors, metadata={"format": "pt"})}
    manifest = {
        "format": "meloedit-adapter",
        "version": FORMAT,
        "kind": kind,
        "rank": rank,
        "fingerprint": model.get("fingerprint"),
        "files": {name: sha256(data) for name, data in files.items()},
    }
    files[MANIFEST] = as_json(manifest)
    return Adapter(prefix + adapter_name(block, invocation), rank, files, sha256(files[MANIFEST]))


def as_json(value: Any) -> bytes:
    """Return a value as the JSON of a file."""
    return (json.dumps(value, indent=1) + "\n").encode()


def weight_name(factor: str) -> str:
    """Return what PEFT calls a factor ``MODULE.A`` or ``MODULE.B`` in its file."""
    module, _, letter = factor.rpartition(".")
    return f"base_model.model.{module}.lora_{letter}.weight"


def factor_name(weight: str) -> str | None:
    """Return the factor that PEFT's file calls so; ``None`` if it is none."""
    head, tail = "base_model.model.", ".weight"
    module, _, letter = weight.removeprefix(head).removesuffix(tail).rpartition(".lora_")
    if not (weight.startswith(head) and weight.endswith(tail) and module and letter in ("A", "B")):
        return None
    return f"{module}.{letter}"
