"""Files that exist complete or not at all: folders, JSON, CSV, cached tensors, and the hashes that name them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import EditError, MeloEditError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CHECKSUM_BYTES = 32
"""Length of the SHA-256 checksum in front of cached tensors."""


def make_folder(path: Path) -> Path:
    """Create a folder and its parents if they are missing, and return it.

    Raises:
        MeloEditError: if a file has its name, or the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        top = next(folder for folder in (path, *path.parents) if folder.exists())
        raise MeloEditError(f"{top} is a file, not a folder: give a folder to write to") from None
    except OSError as error:
        raise MeloEditError(f"{path} cannot be made ({error.strerror})") from None
    return path


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON.

    Raises:
        MeloEditError: if the file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under a header; fields of a row that are no column are left out.

    Raises:
        MeloEditError: if the file cannot be written.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, stream.getvalue().encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, *data: bytes) -> None:
    """Write a file atomically, from one piece or several: readers see the old content or the new, never a part.

    Raises:
        MeloEditError: if it cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.writelines(data)
        os.replace(part, path)
    except OSError as error:
        raise MeloEditError(f"{path} cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):  # a medium that refuses the file also refuses its removal
            part.unlink(missing_ok=True)


def file_sha256(path: str | Path, name: str = "") -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises:
        EditError: naming ``name`` (by default the path), if the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EditError(f"{name or path}: cannot be read ({error.strerror})") from None


def cache_folder() -> Path:
    """Return the folder for converted models and calibrations: ``$MELOEDIT_CACHE`` or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("MELOEDIT_CACHE") or platformdirs.user_cache_dir("meloedit"))


def load_tensors(path: Path) -> dict[str, Tensor] | None:
    """Read tensors that ``save_tensors`` wrote.

    Returns:
        The tensors by name; ``None`` if the file is missing, unreadable or damaged (its checksum does not match).
    """
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, data = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    return load(data) if hashlib.sha256(data).digest() == checksum else None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a cache file: a SHA-256 checksum, then safetensors bytes.

    If the folder cannot be written, a warning is logged and the next run computes the tensors again.
    """
    from safetensors.torch import save

    data = save(dict(tensors))
    try:
        make_folder(path.parent)
        write_bytes(path, hashlib.sha256(data).digest(), data)
    except MeloEditError as error:
        logger.warning("not cached, so the next run computes it again: %s", error)


def canonical_json(value: Any) -> str:
    """Return JSON text that is equal for equal values: keys sorted, no spaces, unknown types as their ``str``."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def json_hash(value: Any, digits: int = 16) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a value's canonical JSON (64 digits: all of it)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]
