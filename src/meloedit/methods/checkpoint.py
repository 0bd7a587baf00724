"""The state of a method in a safetensors file, for ``Method.checkpoint`` and ``Method.restore``.

Each checkpoint is a new file, written whole or not at all. The two newest files stay: an evaluation that is interrupted
after a checkpoint, before it has noted it, still needs the older one.
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
    """Write tensors into a method's folder; return what ``read_state`` needs to read them.

    Args:
        folder: the method's folder.
        tensors: the state.
        number: a number that grows from checkpoint to checkpoint.

    Raises:
        MeloEditError: if there is no folder, or the file cannot be written.
    """
    from safetensors.torch import save

    folder = make_folder(_required(folder))
    path = folder / f"state-{number:06d}.safetensors"
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
    for old in sorted(folder.glob(FILES))[:-2]:
        old.unlink(missing_ok=True)
    return {"file": path.name}


def read_state(folder: Path | None, noted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, and delete the files of all others.

    Args:
        folder: the method's folder.
        noted: what ``write_state`` returned.

    Raises:
        MeloEditError: if there is no folder, or the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _required(folder) / str(noted["file"])
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise MeloEditError(f"{path} cannot be read ({error}): remove {path.parent} to edit anew") from None
    for other in path.parent.glob(FILES):
        if other != path:
            other.unlink(missing_ok=True)
    return tensors


def _required(folder: Path | None) -> Path:
    if folder is None:
        raise MeloEditError("a method without a folder keeps no state: give it one")
    return folder
