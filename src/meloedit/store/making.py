"""Make a store's file: whole or not at all, and in place of another file only if told to."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from ..errors import StoreError
from .database import connect, file_lock, store_error


def check_free(path: Path, name: str | Path) -> None:
    """Check that a store can be created at ``path``.

    Raises:
        StoreError: if the path is taken, or its folder is missing or read-only.
    """
    if os.path.lexists(path):
        raise _taken(name)
    if not path.parent.is_dir():
        raise StoreError(f"{name} cannot be made: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"{name} cannot be written: its folder {path.parent} is read-only; check its permissions")


def _taken(name: str | Path) -> StoreError:
    return StoreError(f"{name} exists already and is left as it is: choose another name, or delete it first")


def create(path: Path, name: str | Path, fill: Callable[[sqlite3.Connection], None], replace: bool = False) -> None:
    """Create a store whole or not at all, and in place of another file only if told to.

    Args:
        path: the new file.
        name: its name in messages.
        fill: writes the contents into an empty database.
        replace: whether the store may take the place of another file, which stays until this one is whole.

    Raises:
        StoreError: if the path is taken, or its folder is missing or cannot be written.
    """
    if not replace:
        check_free(path, name)
    with file_lock(path, name):
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            journal = Path(f"{path}-journal")
            if journal.exists() and journal.stat().st_size:  # SQLite would play it back into the new file
                raise StoreError(f"{journal} is left from an earlier store of this name: delete it first")
            with closing(connect(draft, "rwc")) as db:
                fill(db)
            _publish(draft, path, replace)
        except FileExistsError:
            raise _taken(name) from None
        except OSError as error:
            raise StoreError(f"{name} cannot be made ({error.strerror}): check the folder") from error
        except sqlite3.Error as error:
            raise store_error(name, error) from error
        finally:
            for leftover in (draft, Path(f"{draft}-journal")):
                with suppress(OSError):
                    leftover.unlink()


def _publish(draft: Path, path: Path, replace: bool) -> None:
    """Give the finished draft its final path; a FileExistsError says that another file has it and must keep it."""
    try:
        (os.replace if replace else os.link)(draft, path)  # a link never takes another file's place
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # This file system has no hard links. The writer's lock keeps others from creating this store in between.
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(draft, path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # so that the new name survives a power failure
        finally:
            os.close(folder)
