"""Folders and files that are there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import MeloEditError


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it, where it is not there.

    Raises:
        MeloEditError: if something else has its name, or it may not be made.
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
    """Write a value as JSON."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under a header."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, stream.getvalue().encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; it is there whole or not at all.

    Raises:
        MeloEditError: if it cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise MeloEditError(f"{path} cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):  # on a medium that cannot be written there is nothing to take away either
            part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return the folder for converted models and calibrations: ``$MELOEDIT_CACHE`` or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("MELOEDIT_CACHE") or platformdirs.user_cache_dir("meloedit"))
