"""The state of a method in a safetensors file, for ``Method.checkpoint`` and ``Method.restore``.

Each checkpoint is a new file, written whole or not at all. The two newest files stay: an evaluation that is interrupted
after a checkpoint, before it has noted it, still needs the older one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError
from ..files import file_sha256, make_folder

if TYPE_CHECKING:
    from torch import Tensor

FILES = "state-*.safetensors"
VERSION = 1
"""Counts changes of what a method's state holds: one of another version is refused."""


def write_state(folder: Path | None, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write tensors into a method's folder; return what ``read_state`` needs to read them.

    Args:
        folder: the method's folder.
        tensors: the state. It may be most of the memory that there is, and is not copied.

    Raises:
        MeloEditError: if there is no folder, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = make_folder(_required(folder))
    kept = sorted(folder.glob(FILES))
    _remove([*kept[:-1], *folder.glob("*.part")])  # parts are what a killed run left
    number = int(kept[-1].stem.removeprefix("state-")) + 1 if kept else 1
    path = folder / f"state-{number:06d}.safetensors"
    part = path.with_suffix(".part")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise MeloEditError(f"{path} cannot be written ({error})") from None
    finally:
        _remove([part])
    return {"file": path.name, "version": VERSION, "sha256": file_sha256(path)}


def read_state(folder: Path | None, noted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, and delete the files of all others.

    Args:
        folder: the method's folder.
        noted: what ``write_state`` returned.

    Raises:
        MeloEditError: if there is no folder, or the file is missing, damaged or of another version.
    """
    from safetensors.torch import load_file

    folder = _required(folder)
    if noted.get("version") != VERSION:
        raise MeloEditError(f"{folder} is of another version ({noted.get('version')}, this one reads {VERSION})")
    path = folder / str(noted["file"])
    if file_sha256(path) != noted.get("sha256"):
        raise MeloEditError(f"{path} is damaged")
    tensors = load_file(path)
    _remove([other for other in path.parent.glob(FILES) if other != path])
    return tensors


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _required(folder: Path | None) -> Path:
    if folder is None:
        raise MeloEditError("a method without a folder keeps no state: give it one")
    return folder
