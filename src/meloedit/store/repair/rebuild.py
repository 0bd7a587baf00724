"""Write what was saved of a damaged store into a new one: all of it with its history, or the live edits alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from .. import rows
from ..chain import Added, Live, LogRow, live_after
from ..records import ChangeRow
from ..schema import APPLICATION_ID, FORMAT, PAGE_SIZE, STATEMENTS, checksum, digest
from ..tensors import pack
from .salvage import Saved


def is_whole(saved: Saved) -> bool:
    """Return whether everything was saved that a store with all its history needs."""
    used = {change[1] for _, changes in saved.log.values() for change in changes} - {None}
    in_force = {facts[3] for facts, _ in saved.log.values()} - {None}
    fits = {saved.calibrations[number][1] for number in in_force if number in saved.calibrations}
    return (
        not saved.problems
        and {"model", "config"} <= saved.meta.keys()
        and set(saved.log) == set(range(1, saved.newest + 1))
        and used <= saved.records.keys()
        and in_force <= saved.calibrations.keys()
        and fits <= saved.calibrations.keys()
    )


def write_whole(db: sqlite3.Connection, saved: Saved) -> None:
    """Write every row as it was, under checksums of today's format."""
    with _new_tables(db):
        before = b""
        calibrations, records = sorted(saved.calibrations), sorted(saved.records)
        keys = sorted(saved.keys)
        for revision, (facts, changes) in sorted(saved.log.items()):
            added = _first(db, saved) if revision == 1 else Added()
            for number in (n for n in calibrations if saved.calibrations[n][0] == revision):
                _put_calibration(db, added, saved, number, revision)
            for number in (n for n in records if saved.records[n][0][1] == revision):
                columns, block = saved.records[number]
                rows.put_record(db, added, columns, block or b"")
            for record, fit in (k for k in keys if saved.keys[k][0] == revision):
                rows.insert_keys(db, added, revision, record, fit, saved.keys[record, fit][1])
            time, action, detail, calibration = facts
            made = [ChangeRow(edit_id, record, bool(on)) for edit_id, record, on in changes]
            row = LogRow(revision, time, action, detail, calibration, made, added.digest())
            before = rows.insert_revision(db, before, row)


def live_edits(saved: Saved) -> tuple[Live, bool]:
    """Return the edits that are live as far as is known, and whether a revision that is lost may have changed that.

    Edits of which no revision is left are disabled: whether they answered is unknown.
    """
    log = [
        LogRow(revision, *facts, changes=[ChangeRow(i, record, bool(on)) for i, record, on in changes], added=b"")
        for revision, (facts, changes) in sorted(saved.log.items())
    ]
    live = live_after(log)
    unsure = len(log) < saved.newest
    if unsure:
        last = {change.edit_id: row.revision for row in log for change in row.changes}
        told = {change.record for row in log for change in row.changes}
        for number, (columns, _) in sorted(saved.records.items()):
            edit_id, revision = columns[2], columns[1]
            if number not in told and revision > last.get(edit_id, 0):
                live[edit_id] = (number, False, revision)
    return live, unsure


def fit_in_force(saved: Saved) -> tuple[int, int] | None:
    """Return the newest calibration that can be put in force again, and the one with its tensors."""
    last = max(saved.log, default=0)
    stated = saved.log[last][0][3] if last else None
    for number in ([stated] if stated is not None else []) + sorted(saved.calibrations, reverse=True):
        if number in saved.calibrations and saved.calibrations[number][1] in saved.calibrations:
            return number, saved.calibrations[number][1]
    return None


def usable(saved: Saved, record: int, fit: int | None) -> bool:
    """Return whether a record can be live again: its text, its block, or the one it shares, and its keys are whole."""
    holder = holder_of(saved, record)
    return holder in saved.records and bool(saved.records[holder][1]) and (record, fit) in saved.keys


def holder_of(saved: Saved, record: int) -> int:
    """Return the record that has a record's block; 0 if the record itself is lost."""
    return int(json.loads(saved.records[record][0][8]).get("block", record)) if record in saved.records else 0


def write_live(db: sqlite3.Connection, saved: Saved, live: Live, lost: list[str]) -> None:
    """Write a store with a history of its own: the settings, one calibration, and the live edits.

    Args:
        db: the new database.
        saved: what was saved.
        live: the edits to write; each can be live again.
        lost: what was lost, for the history.
    """
    with _new_tables(db):
        head = rows.insert_revision(db, b"", LogRow(1, rows.now(), "init", "{}", None, [], _first(db, saved).digest()))
        if (found := fit_in_force(saved)) is None:
            return
        number, fit = found
        added = Added()
        rows.insert_calibration(db, added, 2, saved.calibrations[number][3], saved.calibrations[fit][4])
        head = rows.insert_revision(db, head, LogRow(2, rows.now(), "calibrate", "{}", 1, [], added.digest()))
        added, changes, holders = Added(), [], dict[int, int]()
        for new, (edit_id, (record, enabled, _)) in enumerate(live.items(), 1):
            columns, _ = saved.records[record]
            holder = holder_of(saved, record)
            shared = holders.setdefault(holder, new)
            block = saved.records[holder][1] or b"" if shared == new else pack({})
            report = {name: value for name, value in json.loads(columns[8]).items() if name != "block"}
            report |= {"block": shared} if shared != new else {}
            changes.append(ChangeRow(edit_id, new, enabled))
            values = (new, 3, *columns[2:6], digest(block), columns[7], json.dumps(report), len(block))
            rows.put_record(db, added, values, block)
            rows.insert_keys(db, added, 3, new, 1, saved.keys[record, fit][1])
        detail = rows.to_json({"lost": lost[:100]}, "detail")
        rows.insert_revision(db, head, LogRow(3, rows.now(), "repair", detail, 1, changes, added.digest()))


@contextmanager
def _new_tables(db: sqlite3.Connection) -> Iterator[None]:
    """Make the tables of a new store in one transaction, and commit it if nothing is raised."""
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    db.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS:
        db.execute(statement)
    yield
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def _first(db: sqlite3.Connection, saved: Saved) -> Added:
    """Write the settings, which revision 1 adds."""
    added = Added()
    for key, text in sorted(saved.meta.items()):
        added.add("meta", key, checksum(key, text))
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (key, text, checksum(key, text)))
    return added


def _put_calibration(db: sqlite3.Connection, added: Added, saved: Saved, number: int, revision: int) -> None:
    _, fit, _, info, tensors = saved.calibrations[number]
    rows.insert_calibration(db, added, revision, info, tensors, None if fit == number else fit)
