"""Opening what the commands work on: a model, and the store it was made for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..editor import Editor
    from ..store import Store
    from ..types import Progress


def open_store(path: Path) -> Store:
    """Open a store alone; imported here because `--help` needs none."""
    from ..store import Store

    return Store.open(path)


def load(
    name: str, device: str | None, dtype: str | None, tell: Progress, hint: str = ""
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model without transformers' own bars and log lines.

    Args:
        name: a folder, a hub name, or ``smollm2``.
        device: where it runs; ``auto`` spreads it; ``None``: where it is loaded.
        dtype: its number format; ``None``: the one it is stored in.
        tell: told that the model is being loaded.
        hint: what else to say where it cannot be found.

    Raises:
        ModelError: if there is no such model, or no such device or dtype.
    """
    # Spinning OpenMP threads slow other work on the same cores down by a factor of 20; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tell(f"loading {name}", 0, 1)
    from transformers.utils import logging as transformers_logging

    from ..backbones.loading import load_model

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else ten lines on retries, where there is no network
    if device and device.partition(":")[0] == "meta":
        raise ModelError(f"cannot use device {device!r}: nothing is computed there")
    options = {"dtype": dtype} if dtype else {}
    if device == "auto":
        options["device_map"] = "auto"
    try:
        model, tokenizer = load_model(name, **options)
    except ModelError as error:
        raise ModelError(f"{error}{hint}") from None
    if device and device != "auto":
        try:
            model.to(device)  # type: ignore[arg-type]
        except (RuntimeError, AssertionError, ValueError) as error:  # torch's words for a device that is not there
            raise ModelError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from None
    tell(f"loading {name}", 1, 1)
    return model, tokenizer


def lasting_name(name: str) -> str:
    """Return the name by which a model is found again from any folder."""
    if not name.strip():
        raise ModelError("--model is empty: give a folder, a hub name, or smollm2")
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


@contextmanager
def opened(
    path: Path, model: str | None, device: str | None, dtype: str | None, tell: Progress, writing: bool = False
) -> Iterator[Editor]:
    """Open a store on its model; with ``writing``, other writers are kept away from before the model is loaded.

    Args:
        path: the store.
        model: where the model is; ``None``: where the store says.
        device: where it runs; ``None``: where it is loaded.
        dtype: its number format; ``None``: the one its edits were made in.
        tell: told that the model is being loaded.
        writing: whether the store is to be changed.
    """
    if model is not None and not model.strip():
        raise ModelError("--model is empty: leave it out, or say where the model is")
    store = open_store(path)
    with store, store.writing() if writing else nullcontext():
        made_in = str(store.model.get("dtype") or "").removeprefix("torch.")
        hint = "" if model else f"; if the model of {path} has moved, say where with --model"
        loaded, tokenizer = load(model or store.model["name"], device, dtype or made_in or None, tell, hint)
        from ..editor import Editor

        with Editor(loaded, tokenizer, store=store) as editor:
            yield editor


def change_since(path: Path, before: int) -> str:
    """Say whether a store was changed since it was at revision ``before``."""
    after = open_store(path).revision
    return "nothing was changed" if after == before else f"the change is stored: {path} is at revision {after}"


def check_new(path: Path) -> None:
    """Refuse a name for a new store before any work is done for it.

    Raises:
        StoreError: if something is there already, or no folder to put it in.
    """
    from ..store.database import check_free

    check_free(path.absolute(), path)
