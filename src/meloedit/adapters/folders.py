"""Folders that exist whole or not at all, with files that everybody may read, and one writer at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import MeloEditError
from ..files import make_folder

READABLE = 0o644
"""The mode of every file: the engine that reads it often runs as another user."""
ENTERED = 0o755
"""The mode of every folder."""


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Make a folder if it is missing, and keep other writers out for the length of a ``with`` block.

    Raises:
        MeloEditError: if it cannot be made or written, or another process is writing it.
    """
    make_folder(folder)
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MeloEditError(f"{folder} is being written by another process; try again when it is done") from None
    except (OSError, NotImplementedError) as error:
        raise cannot_write(folder, error) from None
    try:
        yield folder
    except OSError as error:
        raise cannot_write(Path(error.filename or folder), error) from None
    finally:
        lock.release()


def cannot_write(path: Path, error: BaseException) -> MeloEditError:
    """Return the error for a path that cannot be written."""
    return MeloEditError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error})")


def write_file(path: Path, data: bytes) -> None:
    """Write a file, in place of another if there is one: readers see the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.chmod(READABLE)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write a folder whole or not at all; return false if it is there already with the same content.

    A folder of the same name that has other content, since it was changed by hand, is put right.
    """
    if holds(folder, files):
        return False
    part, old = (folder.with_name(f".{folder.name}.{what}") for what in ("part", "old"))
    try:
        for leftover in (part, old):
            remove_folder(leftover)
        part.mkdir()
        part.chmod(ENTERED)
        for name, data in files.items():
            (part / name).write_bytes(data)
            (part / name).chmod(READABLE)
        if os.path.lexists(folder):
            os.rename(folder, old)
        os.rename(part, folder)
    finally:
        for leftover in (part, old):
            with suppress(OSError):
                remove_folder(leftover)
    return True


def holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Return whether a folder has these files with this content, readable for all."""
    try:
        return all(
            (folder / name).read_bytes() == data
            and (os.name == "nt" or (folder / name).stat().st_mode & 0o444 == 0o444)
            for name, data in files.items()
        )
    except OSError:
        return False


def remove_folder(folder: Path) -> None:
    """Remove a folder, or a file or link in its place; nothing if there is none."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
