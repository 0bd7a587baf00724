"""The file of a store: lock and open it, and turn each failure into one clear error.

``path`` is the real path of the file; ``name`` is the path as the user gave it, for error messages.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import StoreError
from ..text import shorten
from .guard.limits import check_schema, distrust, limit_steps
from .schema import APPLICATION_ID, CONVERTED, FORMAT, damaged

BUSY_SECONDS = 10.0
"""How long a connection waits for another program's lock on the file."""


def store_error(name: str | Path, error: sqlite3.Error) -> StoreError:
    """Return the error that tells a user what an error of SQLite means and what to do."""
    # The low byte is the primary code. The attribute is absent where text in the file is not UTF-8.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    reason = f"{getattr(error, 'sqlite_errorname', 'SQLITE')}: {error}"
    locked = "is locked by another process; try again when it is done"
    protected = "cannot be written: the file or its folder is read-only; check their permissions"
    meanings = {
        sqlite3.SQLITE_BUSY: locked,
        sqlite3.SQLITE_LOCKED: locked,
        sqlite3.SQLITE_READONLY: protected,
        sqlite3.SQLITE_PERM: protected,
        sqlite3.SQLITE_CANTOPEN: f"cannot be opened: check the permissions of the file and its folder ({reason})",
        sqlite3.SQLITE_FULL: "cannot grow: disk is full: this change is not stored, those before are; free some space",
        sqlite3.SQLITE_IOERR: f"cannot be read or written: the disk reports an error ({reason}); no change was stored",
        sqlite3.SQLITE_NOTADB: "is not a meloedit store (it is no SQLite file, or its head is damaged)",
        sqlite3.SQLITE_TOOBIG: "cannot hold a block or keys of more than 1 GB; nothing was stored",
        sqlite3.SQLITE_NOMEM: "needs more memory than there is; nothing was stored",
    }
    if code == sqlite3.SQLITE_INTERRUPT:
        return damaged(name, "reading it takes more steps than a file of its size needs")
    return StoreError(f"{name} {meanings[code]}") if code in meanings else damaged(name, reason)


def real_path(path: str | Path) -> Path:
    """Return the absolute path without links: one path per file, so that all writers of a store use one lock.

    Raises:
        StoreError: if it is no path.
    """
    if isinstance(path, str | Path) and str(path).strip() and "\0" not in str(path):
        with suppress(ValueError):  # half of a surrogate pair is in no file's name
            return Path(os.path.realpath(path))
    raise StoreError(f"give the path of a store's file, not {shorten(repr(path), 60)}")


def file_id(path: Path, name: str | Path) -> tuple[int, int]:
    """Return device and inode of a file: they differ if another file has taken its place.

    Raises:
        StoreError: if the file is missing, is a folder, or cannot be reached.
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
    """Return a connection that commits durably, which is set per connection, not in the file.

    Args:
        path: the file.
        mode: ``"rw"`` for an existing file, ``"rwc"`` to create a missing one.
    """
    # By URI: a plain path would create an empty file if there is none.
    uri = f"{path.as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        distrust(db)
        # TRUNCATE syncs the end of a transaction and DELETE does not. WAL has a corruption bug before SQLite 3.51.3.
        for pragma in ("journal_mode = TRUNCATE", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def open_database(path: Path, name: str | Path) -> Iterator[sqlite3.Connection]:
    """Open a store for one operation; a transaction that is still open at the end is rolled back.

    Each operation opens a new connection, which takes 0.2 ms: it works in every thread and after a fork, and no
    forgotten cursor delays a COMMIT.

    Raises:
        StoreError: in place of every error of SQLite, and if the file is not a store of this format.
    """
    file_id(path, name)
    try:
        check_application(path, name)
        db = connect(path, "rw")
        try:
            check_format(db, name)
            limit_steps(db)
            check_schema(db, name)
            yield db
        finally:
            if db.in_transaction:
                with suppress(sqlite3.Error):  # if this fails, closing rolls back
                    db.execute("ROLLBACK")
            db.close()
    except sqlite3.Error as error:
        raise store_error(name, error) from error
    except UnicodeEncodeError:
        raise StoreError(f"{name}: an id or action has characters that are no valid text") from None
    except UnicodeDecodeError as error:  # raised for a message of SQLite that quotes a damaged name
        raise damaged(name, error) from error


def check_application(path: Path, name: str | Path) -> None:
    """Refuse another program's database before ``connect`` changes its journal mode, which is stored in the file.

    Raises:
        StoreError: if it is one.
    """
    try:
        # Immutable: SQLite takes no lock and creates no file beside this one, not even for a database in WAL mode.
        uri = f"{path.as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as db:
            number = db.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error:
        return  # a writer may be at work: opening the file with locks shows whether anything is wrong
    if number != APPLICATION_ID:
        raise StoreError(f"{name} is not a meloedit store (it is empty, or another program's SQLite file)")


def check_format(db: sqlite3.Connection, name: str | Path) -> None:
    """Refuse a store of another format.

    Raises:
        StoreError: saying how to go on.
    """
    number = db.execute("PRAGMA user_version").fetchone()[0]
    if number < 1:
        raise damaged(name, f"its format is {number}, the first one is 1")
    formats = f"{name} has format {number}, this meloedit reads format {FORMAT}"
    if number > FORMAT:
        raise StoreError(f"{formats}: upgrade meloedit")
    if number == CONVERTED:
        raise StoreError(f"{formats}: bring it over with: meloedit repair {name} --to NEW")
    if number < FORMAT:
        why = "it was made by an earlier meloedit that was never released"
        raise StoreError(f"{formats}: {why}; make the store again from its edits")


@contextmanager
def file_lock(path: Path, name: str | Path) -> Iterator[None]:
    """Take the lock that only one writer of a store can have, for the length of a ``with`` block.

    The lock is on a file beside the store. A lock on the store itself would break those of SQLite: when a process
    closes any handle of a file, POSIX drops all locks that the process has on it.

    Raises:
        StoreError: if another process, or another Store object, has the lock, or if the folder cannot be written.
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
