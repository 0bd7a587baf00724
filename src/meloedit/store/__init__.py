"""One SQLite file: the edits, their blocks and keys, and the history of every change. Imports no torch."""
