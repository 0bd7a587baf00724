"""Open what the commands work on: a model, and the store that was made for it."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..editor import Editor
    from ..store import Store
    from ..types import Progress
    from .options import StoreOptions


def open_store(path: Path) -> Store:
    """Open a store without its model. The import is late because ``--help`` needs no store."""
    from ..store import Store

    return Store.open(path)


def load(
    name: str, device: str | None, dtype: str | None, progress: Progress, hint: str = ""
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model without the bars and log lines of transformers.

    Args:
        name: a folder, a hub name, or ``smollm2``.
        device: where it runs; ``auto`` spreads it over all devices; ``None``: where it is loaded.
        dtype: its number format; ``None``: the one it is stored in.
        progress: called before and after the model is loaded.
        hint: words to add to the error if the model cannot be loaded.

    Raises:
        ModelError: if there is no such model, device or dtype.
    """
    # Spinning OpenMP threads slow other work on the same cores down by a factor of 20. Torch reads this when imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    progress(f"loading {name}", 0, 1)
    from transformers.utils import logging as transformers_logging

    from ..backbones.loading import is_gguf, load_model

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # ten lines on retries, where there is no network
    if device and device.partition(":")[0] == "meta":
        raise ModelError(f"cannot use device {device!r}: nothing is computed there")
    options = {"dtype": dtype} if dtype else {}
    if device == "auto":
        options["device_map"] = "auto"
    try:  # transformers has a bar for GGUF files that no setting switches off
        with redirect_stderr(io.StringIO()) if is_gguf(name) else nullcontext():
            model, tokenizer = load_model(name, **options)
    except ModelError as error:
        raise ModelError(f"{error}{hint}") from None
    if device and device != "auto":
        try:
            model.to(device)  # type: ignore[arg-type]
        except (RuntimeError, AssertionError, ValueError) as error:  # torch raises any of these for a missing device
            raise ModelError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from None
    progress(f"loading {name}", 1, 1)
    return model, tokenizer


def lasting_name(name: str) -> str:
    """Return a model's name as the store records it: a folder or file by its full path, for any working folder."""
    if not name.strip():
        raise ModelError("--model is empty: give a folder, a hub name, or smollm2")
    from ..backbones.loading import is_gguf

    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() or is_gguf(name) else name


@contextmanager
def open_editor(
    options: StoreOptions, progress: Progress, writing: bool = False, judge: str | None = None, rekey: bool = False
) -> Iterator[Editor]:
    """Open a store on its model.

    Args:
        options: the store, and where its model is if not where the store says; without a dtype, the model is loaded
            in the one that its edits were made in.
        progress: called before and after the model is loaded.
        writing: whether the command changes the store. Other writers are then locked out before the model is loaded.
        judge: the judge to take in place of the store's, which may be gone.
        rekey: move the store to this model, another copy of its own.

    Raises:
        ModelError: if the model cannot be loaded, or is not the one that the store was made for.
        StoreError: if the store cannot be opened, or another process is writing it.
    """
    if options.model is not None and not options.model.strip():
        raise ModelError("--model is empty: leave it out, or say where the model is")
    store = open_store(options.store)
    with store, store.writing() if writing else nullcontext():
        stored_dtype = str(store.model.get("dtype") or "").removeprefix("torch.")
        hint = "" if options.model else f"; if the model of {options.store} has moved, say where with --model"
        name, dtype = options.model or store.fact("name"), options.dtype or stored_dtype or None
        model, tokenizer = load(name, options.device, dtype, progress, hint)
        from ..editor import Editor

        with Editor(model, tokenizer, None, store, lasting_name(name), judge, rekey) as editor:
            yield editor


def change_since(path: Path, before: int) -> str:
    """Return a sentence on whether a store was changed since revision ``before``."""
    after = open_store(path).revision
    return "nothing was changed" if after == before else f"the change is stored: {path} is at revision {after}"


def check_new(path: Path) -> None:
    """Refuse a name for a new store before any work is done for it.

    Raises:
        StoreError: if something exists there, or there is no folder to put the store in.
    """
    from ..store.making import check_free

    check_free(path.absolute(), path)
