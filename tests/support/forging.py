"""Stores with right checksums and wrong contents: change a file by SQL, then seal it again from end to end."""

import sqlite3
from contextlib import closing

from meloedit.store import chain, schema


def reseal(path):
    """Compute every checksum of a store anew, whatever its rows say."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        added = {}

        def note(revision, table, key, check):
            added.setdefault(revision, chain.Added()).add(table, key, check)

        for key, value in db.execute("SELECT key, value FROM meta").fetchall():
            check = schema.checksum(key, value)
            db.execute("UPDATE meta SET sha256 = ? WHERE key = ?", (check, key))
            note(1, "meta", key, check)
        for number, blob in db.execute("SELECT id, tensors FROM calibrations").fetchall():
            db.execute("UPDATE calibrations SET digest = ? WHERE id = ?", (schema.digest(as_bytes(blob)), number))
            query = f"SELECT {schema.CALIBRATION_COLUMNS} FROM calibrations WHERE id = ?"
            row = schema.CalibrationRow(*db.execute(query, (number,)).fetchone())
            db.execute("UPDATE calibrations SET sha256 = ? WHERE id = ?", (row.check, number))
            note(row.revision, "calibration", number, row.check)
        for number, blob in db.execute("SELECT id, block FROM records").fetchall():
            db.execute("UPDATE records SET digest = ? WHERE id = ?", (schema.digest(as_bytes(blob)), number))
            query = f"SELECT {schema.RECORD_COLUMNS} FROM records WHERE id = ?"
            row = schema.RecordRow(*db.execute(query, (number,)).fetchone())
            db.execute("UPDATE records SET sha256 = ? WHERE id = ?", (row.check, number))
            note(row.revision, "record", number, row.check)
        for rowid, record, fit, revision, blob in db.execute(
            "SELECT rowid, record, calibration, revision, tensors FROM keys"
        ).fetchall():
            check = schema.checksum(record, fit, blob)
            size = db.execute("SELECT LENGTH(tensors) FROM keys WHERE rowid = ?", (rowid,)).fetchone()[0]
            db.execute("UPDATE keys SET sha256 = ? WHERE rowid = ?", (check, rowid))
            note(revision, "keys", f"{record} {fit} {size}", check)
        before = b""
        query = "SELECT revision, time, action, detail, calibration FROM revisions ORDER BY revision"
        for number, *facts in db.execute(query).fetchall():
            query = "SELECT edit_id, record, enabled FROM changes WHERE revision = ? ORDER BY edit_id"
            changes = db.execute(query, (number,)).fetchall()
            digest = added.get(number, chain.Added()).digest()
            before = chain.link(before, number, tuple(facts), changes, digest)
            db.execute("UPDATE revisions SET added = ?, sha256 = ? WHERE revision = ?", (digest, before, number))
            db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (number, before))


def as_bytes(value):
    return value if isinstance(value, bytes) else str(value).encode()


def forge(path, *statements, values=()):
    """Change a store by SQL, the first statement with values, and seal it again."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        for number, statement in enumerate(statements):
            db.execute(statement, values if number == 0 else ())
    reseal(path)
