"""The file of a store: how it is made, locked and opened, and what each failure means."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import StoreError
from .schema import APPLICATION_ID, FORMAT, damaged

BUSY_SECONDS = 10.0


def explain(name: str | Path, error: sqlite3.Error) -> StoreError:
    """Return what an error of SQLite means to the user of the store ``name``."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # absent: text that is not UTF-8
    reason = f"{getattr(error, 'sqlite_errorname', 'SQLITE')}: {error}"
    locked = "is locked by another process; try again when it is done"
    protected = "cannot be written: the file or its folder is read-only; check their permissions"
    words = {
        sqlite3.SQLITE_BUSY: locked,
        sqlite3.SQLITE_LOCKED: locked,
        sqlite3.SQLITE_READONLY: protected,
        sqlite3.SQLITE_PERM: protected,
        sqlite3.SQLITE_CANTOPEN: f"cannot be opened: check the permissions of the file and its folder ({reason})",
        sqlite3.SQLITE_FULL: "cannot grow: disk is full: this change is not stored, those before are; free some space",
        sqlite3.SQLITE_IOERR: f"cannot be read or written: the disk reports an error ({reason}); no change was stored",
        sqlite3.SQLITE_NOTADB: "is not a meloedit store (it is no SQLite file, or its head is damaged)",
        sqlite3.SQLITE_TOOBIG: "cannot hold a block or keys of more than 1 GB; nothing was stored",
    }
    return StoreError(f"{name} {words[code]}") if code in words else damaged(name, reason)


def real(path: str | Path) -> Path:
    """Return one name for every way to name a file, so that all writers of a store meet at one lock."""
    return Path(os.path.realpath(path))


def identity(path: Path, name: str | Path) -> tuple[int, int]:
    """Return what tells the file at ``path`` from one that took its place.

    Raises:
        StoreError: if nothing is there, or a folder, or if that cannot be found out.
    """
    try:
        if path.is_dir():
            raise StoreError(f"{name} is a folder, not a store: give the path of a store's file")
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store at {name}; make one with: meloedit init {name} --model MODEL") from None
    except OSError as error:
        raise StoreError(f"{name} cannot be opened ({error.strerror}): check the permissions of its folder") from None
    return status.st_dev, status.st_ino


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection that commits durably; the file itself does not keep these settings."""
    # By URI, because a plain name would make an empty file where there is none.
    uri = f"{path.as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # TRUNCATE syncs the end of a transaction, DELETE does not; WAL has a corruption bug before SQLite 3.51.3.
        for pragma in ("journal_mode = TRUNCATE", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def database(path: Path, name: str | Path) -> Iterator[sqlite3.Connection]:
    """Open the store at ``path`` for one operation; a transaction left open is rolled back.

    A connection per operation (0.2 ms) serves every thread, survives a fork, and no forgotten cursor holds up a COMMIT.

    Raises:
        StoreError: in place of every error of SQLite, and if the file is not a store that this version reads.
    """
    identity(path, name)
    try:
        _check_owner(path, name)
        db = connect(path, "rw")
        try:
            _check_format(db, name)
            yield db
        finally:
            if db.in_transaction:
                with suppress(sqlite3.Error):  # closing does it where this fails
                    db.execute("ROLLBACK")
            db.close()
    except sqlite3.Error as error:
        raise explain(name, error) from error
    except UnicodeEncodeError:
        raise StoreError(f"{name}: an id or action has characters that are no valid text") from None
    except UnicodeDecodeError as error:  # in a message of SQLite about a damaged name
        raise damaged(name, error) from error


def _check_owner(path: Path, name: str | Path) -> None:
    """Refuse another program's database before ``connect`` changes it: its journal mode is kept in the file."""
    try:
        # Immutable: takes no lock and makes no file beside it, not even for a database in WAL mode.
        uri = f"{path.as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as db:
            number = db.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error:
        return  # torn by a writer, perhaps: opening it with locks says what is wrong, if anything is
    if number != APPLICATION_ID:
        raise StoreError(f"{name} is not a meloedit store (it is empty, or another program's SQLite file)")


def _check_format(db: sqlite3.Connection, name: str | Path) -> None:
    number = db.execute("PRAGMA user_version").fetchone()[0]
    if number > FORMAT:
        raise StoreError(f"{name} has format {number}, this meloedit reads up to {FORMAT}: upgrade meloedit")
    if number < 1:
        raise damaged(name, f"its format is {number}, the first one is 1")


@contextmanager
def file_lock(path: Path, name: str | Path) -> Iterator[None]:
    """Hold the lock of the one writer of a store.

    It is on a file beside the store: closing any second handle of the store itself would drop SQLite's own locks on it.

    Raises:
        StoreError: if another process, or another Store object, holds it, or if the folder cannot be written.
    """
    lock = FileLock(f"{path}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{name} is being written by another process; try again when it is done") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{name} cannot be written: no {path.name}.lock can be made ({reason})") from error
    try:
        yield
    finally:
        lock.release()


def check_free(path: Path, name: str | Path) -> None:
    """Refuse a name for a new store.

    Raises:
        StoreError: if something is there already, or no folder to put it in.
    """
    if os.path.lexists(path):
        raise _taken(name)
    if not path.parent.is_dir():
        raise StoreError(f"{name} cannot be made: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"{name} cannot be written: its folder {path.parent} is read-only; check its permissions")


def _taken(name: str | Path) -> StoreError:
    return StoreError(f"{name} exists already and is left as it is: choose another name, or delete it first")


def create(path: Path, name: str | Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a store whole or not at all, and never in place of another file; ``fill`` writes what is in it.

    Raises:
        StoreError: if something is there already, or the folder is missing or cannot be written.
    """
    check_free(path, name)
    with file_lock(path, name):
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            journal = Path(f"{path}-journal")
            if journal.exists() and journal.stat().st_size:  # SQLite would play it back into the new file
                raise StoreError(f"{journal} is left from an earlier store of this name: delete it first")
            with closing(connect(draft, "rwc")) as db:
                fill(db)
            _publish(draft, path)
        except FileExistsError:
            raise _taken(name) from None
        except OSError as error:
            raise StoreError(f"{name} cannot be made ({error.strerror}): check the folder") from error
        except sqlite3.Error as error:
            raise explain(name, error) from error
        finally:
            for leftover in (draft, Path(f"{draft}-journal")):
                with suppress(OSError):
                    leftover.unlink()


def _publish(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # unlike a rename, never over another file
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # No hard links on this file system: the lock keeps other makers of this store away.
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(draft, path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # so that the new name outlives a power failure
        finally:
            os.close(folder)
