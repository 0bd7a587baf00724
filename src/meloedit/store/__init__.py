"""One SQLite file: the edits, their blocks and keys, and the history of every change. Imports no torch."""

from .records import ChangeRow, Record, Revision, StoredEdit
from .store import Store

__all__ = ["ChangeRow", "Record", "Revision", "Store", "StoredEdit"]
