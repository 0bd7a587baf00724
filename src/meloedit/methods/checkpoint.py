"""A method's tensors in a file: safetensors, written whole or not at all, a new file each time.

The file before the newest stays: what was noted may still name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError
from ..files import make_folder, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

FILES = "state-*.safetensors"


def write_state(folder: Path | None, tensors: Mapping[str, Tensor], number: int) -> dict[str, Any]:
    """Write tensors into a method's folder, beside those of an earlier number; return what is to be noted of them."""
    from safetensors.torch import save

    folder = make_folder(_given(folder))
    path = folder / f"state-{number:06d}.safetensors"
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
    for old in sorted(folder.glob(FILES))[:-2]:
        old.unlink(missing_ok=True)
    return {"file": path.name}


def read_state(folder: Path | None, noted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors that were noted, and remove all others.

    Raises:
        MeloEditError: if they are not there or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _given(folder) / str(noted["file"])
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise MeloEditError(f"{path} cannot be read ({error}): remove {path.parent} to edit anew") from None
    for other in path.parent.glob(FILES):
        if other != path:
            other.unlink(missing_ok=True)
    return tensors


def _given(folder: Path | None) -> Path:
    if folder is None:
        raise MeloEditError("a method without a folder keeps no state: give it one")
    return folder
