"""Find the layers and linear modules of a model by its structure, and take a fingerprint of its weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights by name; those that accelerate has offloaded to the CPU or the disk are fetched."""
    for prefix, module in model.named_modules():
        names = [name for name, _ in module.named_parameters(recurse=False)]
        if any(weight.device.type == "meta" for weight in module.parameters(recurse=False)):
            from accelerate.utils import align_module_device

            with align_module_device(module, "cpu"):
                yield from [(f"{prefix}.{name}", module.get_parameter(name).clone()) for name in names]
        else:
            yield from [(f"{prefix}.{name}", module.get_parameter(name)) for name in names]


def fingerprint(model: nn.Module) -> str:
    """Return a hash of a model's weights: their names, shapes, and up to 64 values of each, rounded to bfloat16.

    Rounding makes a model loaded as float32 and as bfloat16 the same. Quantised bytes are sampled as they are.
    """
    return fingerprint_of(weights(model))


def fingerprint_of(named: Iterable[tuple[str, Tensor]]) -> str:
    """Return the fingerprint of a model with these weights, in any order."""
    digest = hashlib.sha256()
    for name, weight in sorted((part for one in named for part in _plain(*one)), key=lambda one: one[0]):
        flat = weight.detach().reshape(-1)
        picks = torch.linspace(0, max(0, flat.numel() - 1), min(64, flat.numel()), dtype=torch.float64).long()
        values = flat[picks.to(flat.device)].cpu()
        sample = values.to(torch.bfloat16).view(torch.int16) if values.is_floating_point() else values
        digest.update(json.dumps([name, list(weight.shape)]).encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _plain(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield a weight, or, of one that is made of several tensors, as quantisers have them, those by name."""
    if not hasattr(weight, "__tensor_flatten__"):
        yield name, weight
        return
    for part in weight.__tensor_flatten__()[0]:
        yield from _plain(f"{name}.{part}", getattr(weight, part))


def linear_names(model: nn.Module) -> list[str]:
    """Return the names of all modules that a block can edit: linear ones and transformers' ``Conv1D``."""
    return [name for name, module in model.named_modules() if linear_shape(module)]


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """Return (inputs, outputs) of a linear module, ``None`` for any other module.

    Quantised linear modules have the attributes of ``nn.Linear``; ``Conv1D`` has ``nx`` and ``nf`` instead.
    """
    for names in (("in_features", "out_features"), ("nx", "nf")):
        sizes = tuple(getattr(module, name, None) for name in names)
        if all(isinstance(size, int) for size in sizes):
            return sizes  # type: ignore[return-value]
    return None


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of a model's layers: the module list as long as its configuration says.

    A model that sees or hears has other stacks, too: the decoder of text is looked through first.

    Raises:
        ModelError: if there is no such list.
    """
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for part in (model.get_decoder(), model):
        within = {id(module) for module in part.modules()}
        for name, module in lists:
            is_stack = len(module) == count and any(linear_shape(child) for child in module.modules())
            if is_stack and id(module) in within:
                return name, module
    raise ModelError(
        f"cannot find the {count} layers of {type(model).__name__} (module lists: {[name for name, _ in lists]})"
    )


def compressed(names: Sequence[str]) -> list[str]:
    """Write names that differ in the layer's number once: ``h.0.mlp`` ... ``h.11.mlp`` become ``h.{0..11}.mlp``."""
    groups: dict[str, list[int]] = {}
    for name in names:
        match = re.search(r"\.(\d+)\.", name)
        groups.setdefault(re.sub(r"\.\d+\.", ".{}.", name, count=1), []).extend([int(match.group(1))] if match else [])
    return [
        group.replace("{}", f"{{{min(numbers)}..{max(numbers)}}}", 1) if numbers else group
        for group, numbers in groups.items()
    ]
