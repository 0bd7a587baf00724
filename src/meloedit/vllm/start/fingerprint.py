"""The fingerprint of a model's files: the same that ``backbones.layers`` takes of the loaded model.

vLLM puts some weights together (the projections of attention, gate and up of a feed-forward), so that the fingerprint
is taken of the files that it loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from ...backbones import model_class
from ...backbones.layers import fingerprint_of
from ...errors import ModelError

WHOLE = "model.safetensors"


def file_fingerprint(model: str, revision: str | None = None) -> str:
    """Return the fingerprint of a model by the safetensors files of its folder, or of its copy in the Hub's cache.

    Raises:
        ModelError: if there are no such files, or they lack a weight.
    """
    import torch
    from transformers import AutoConfig

    folder = _folder(model, revision)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{model} has no safetensors files, by which its weights are compared with the store's model")
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        empty: Any = model_class(config).from_config(config)
    return fingerprint_of(_named(empty, files, model))


def _folder(model: str, revision: str | None) -> Path:
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        raise ModelError(f"the files of {model} are not in the Hub's cache: give --model a folder") from None


def _named(empty: Any, files: list[Path], model: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a model by the names that it gives them, those that share one tensor under every name."""
    from safetensors import safe_open

    opened = [safe_open(path, framework="pt") for path in files]
    where = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 -- not a mapping
    tied = _tied(empty)
    for prefix, module in empty.named_modules():
        for own, weight in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}"
            found = next((one for one in (name, *tied.get(name, ())) if one in where), None)
            if found is None:
                raise ModelError(f"the files of {model} have no weight {name!r}: another kind of model, or not whole")
            tensor = where[found].get_tensor(found)
            if tuple(tensor.shape) != tuple(weight.shape):
                raise ModelError(f"the weight {name!r} of {model} has another shape than config.json says")
            yield name, tensor


def _tied(empty: Any) -> dict[str, list[str]]:
    """Return, by name, the other names of the same weight."""
    names: dict[int, list[str]] = {}
    for prefix, module in empty.named_modules():
        for own, weight in module.named_parameters(recurse=False):
            names.setdefault(id(weight), []).append(f"{prefix}.{own}")
    return {name: [other for other in same if other != name] for same in names.values() for name in same}
