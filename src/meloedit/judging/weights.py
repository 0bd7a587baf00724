"""A judge's file: weights in int8 with a scale per row, vocabulary and figures, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from ..errors import ModelError
from ..files import write_bytes

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

FORMAT = "1"
"""The format of the file: others are refused."""
_VOCABULARY, _NEAR, _SCALE = "tokenizer.json", "near", ".scale"


@dataclass(frozen=True)
class JudgeFile:
    """What a judge's file holds.

    Attributes:
        name: the first digits of the hash of its contents.
        weights: the model's tensors by name, float32.
        tokenizer: its tokenizer.
        near: (n,) scores of near pairs that it was not trained on, ascending.
        card: the model's ``config``, and how it was trained.
    """

    name: str
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    near: Tensor
    card: dict[str, Any]

    def model(self) -> BertForSequenceClassification:
        """Return the model, in float32, for inference."""
        from transformers import BertConfig, BertForSequenceClassification
        from transformers.initialization import no_init_weights

        with no_init_weights():
            model = BertForSequenceClassification(BertConfig(**self.card["config"] | {"num_labels": 1}))
        model.float().load_state_dict(self.weights)  # float32, whatever torch's default is
        return model.eval().requires_grad_(False)


def write_judge(
    path: Path, weights: Mapping[str, Tensor], tokenizer: bytes, near: Tensor, card: Mapping[str, Any]
) -> None:
    """Write a judge's file; see ``JudgeFile``. Matrices become int8, everything else stays float32."""
    tensors = {_NEAR: near.sort().values, _VOCABULARY: torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8)}
    for name, weight in weights.items():
        tensors |= rounded(name, weight)
    text = json.dumps(card, sort_keys=True)
    metadata = {"format": FORMAT, "card": text, "sha256": _digest(tensors, text)}
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


def rounded(name: str, weight: Tensor) -> dict[str, Tensor]:
    """Return a weight as it is stored: w = q s, with q int8 and s the largest of a row's |w| over 127."""
    weight = weight.detach().float()
    if weight.dim() != 2 or weight.shape[0] == 1:
        return {name: weight}
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return {name: (weight / scale).round().to(torch.int8), name + _SCALE: scale}


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 weights from what ``rounded`` returned."""
    return {
        name: tensor.float() * tensors[name + _SCALE] if name + _SCALE in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(_SCALE)
    }


def read_judge(path: Path) -> JudgeFile:
    """Read a judge's file.

    Raises:
        ModelError: if it is missing, damaged, of another format, or no judge.
    """
    if not path.exists():
        raise ModelError(
            f"there is no judge {path}: put it there, or take another with meloedit calibrate STORE --judge"
        )
    if not path.is_file():
        raise ModelError(f"the judge {path} is no file: name a file that judge.pack wrote, built-in, or none")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        why = str(error).splitlines()[0]
        raise ModelError(f"the judge {path} is damaged or no judge: get it again ({why})") from None
    if (found := metadata.get("format")) != FORMAT:
        raise ModelError(f"the judge {path} has format {found}, this version reads {FORMAT}: use another one")
    digest = _digest(tensors, metadata.get("card", ""))
    if metadata.get("sha256") != digest:
        raise ModelError(f"the judge {path} is damaged: its contents do not match their checksum; get it again")
    try:
        return _judge_of(digest[:12], tensors, json.loads(metadata["card"]))
    except Exception as error:  # json, tokenizers and torch raise errors of many classes
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"the judge {path} is whole, but no judge: make it with judge.pack ({why})") from None


def _judge_of(name: str, tensors: dict[str, Tensor], card: dict[str, Any]) -> JudgeFile:
    vocabulary, near = tensors.pop(_VOCABULARY), tensors.pop(_NEAR)
    weights = restored(tensors)
    if not near.numel() or not all(tensor.isfinite().all() for tensor in (near, *weights.values())):
        raise ValueError("it has no scores of near pairs, or numbers that are not finite")
    tokenizer = Tokenizer.from_str(bytes(vocabulary.numpy()).decode())
    file = JudgeFile(name, weights, tokenizer, near, card)
    file.model()
    return file


def _digest(tensors: Mapping[str, Tensor], card: str) -> str:
    found = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
