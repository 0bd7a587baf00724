"""Write what was saved of a damaged store into a new one: all of it with its history, or the live edits alone."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from .. import rows
from ..chain import Added, Live, LogRow, live_after
from ..records import ChangeRow
from ..schema import digest, new_tables
from ..tensors import pack
from .salvage import Saved

Number = TypeVar("Number", int, tuple[int, int])


def is_whole(saved: Saved) -> bool:
    """Return whether everything was saved that a store with all its history needs."""
    used = {change.record for row in saved.log.values() for change in row.changes} - {None}
    in_force = {row.calibration for row in saved.log.values() if row.calibration is not None}
    fits = {saved.calibrations[number][0].fit for number in in_force & saved.calibrations.keys()}
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
    calibrations = _by_revision({number: row.revision for number, (row, _) in saved.calibrations.items()})
    records = _by_revision({number: row.revision for number, (row, _) in saved.records.items()})
    keys = _by_revision({of: revision for of, (revision, _) in saved.keys.items()})
    before = b""
    with new_tables(db):
        for revision, row in sorted(saved.log.items()):
            added = _insert_meta(db, saved) if revision == 1 else Added()
            for number in calibrations[revision]:
                rows.put_calibration(db, added, *saved.calibrations[number])
            for number in records[revision]:
                record, block = saved.records[number]
                rows.put_record(db, added, record, block or b"")
            for of, fit in keys[revision]:
                rows.insert_keys(db, added, revision, of, fit, saved.keys[of, fit][1])
            before = rows.insert_revision(db, before, replace(row, added=added.digest()))


def _by_revision(added: Mapping[Number, int]) -> defaultdict[int, list[Number]]:
    """Return the numbers of rows in order, by the revision that added each."""
    found: defaultdict[int, list[Number]] = defaultdict(list)
    for number in sorted(added):
        found[added[number]].append(number)
    return found


def live_edits(saved: Saved) -> tuple[Live, bool]:
    """Return the edits that are live as far as is known, and whether a revision that is lost may have changed that.

    Edits of which no revision is left are disabled: whether they answered is unknown.
    """
    log = [row for _, row in sorted(saved.log.items())]
    live = live_after(log)
    unsure = len(log) < saved.newest
    if unsure:
        last = {change.edit_id: row.revision for row in log for change in row.changes}
        told = {change.record for row in log for change in row.changes}
        for number, (record, _) in sorted(saved.records.items()):
            if number not in told and record.revision > last.get(record.edit_id, 0):
                live[record.edit_id] = (number, False, record.revision)
    return live, unsure


def fit_in_force(saved: Saved) -> tuple[int, int] | None:
    """Return the newest calibration that can be put in force again, and the one with its tensors."""
    stated = saved.log[max(saved.log)].calibration if saved.log else None
    for number in ([stated] if stated is not None else []) + sorted(saved.calibrations, reverse=True):
        if number in saved.calibrations and (fit := saved.calibrations[number][0].fit) in saved.calibrations:
            return number, fit
    return None


def usable(saved: Saved, record: int, fit: int | None) -> bool:
    """Return whether a record can be live again: its text, its block, or the one it shares, and its keys are whole."""
    holder = holder_of(saved, record)
    return holder in saved.records and bool(saved.records[holder][1]) and (record, fit) in saved.keys


def holder_of(saved: Saved, record: int) -> int:
    """Return the record that has a record's block; 0 if the record itself is lost."""
    return int(json.loads(saved.records[record][0].report).get("block", record)) if record in saved.records else 0


def write_live(db: sqlite3.Connection, saved: Saved, live: Live, lost: list[str]) -> None:
    """Write a store with a history of its own: the settings, one calibration, and the live edits.

    Args:
        db: the new database.
        saved: what was saved.
        live: the edits to write; each can be live again.
        lost: what was lost, for the history.
    """
    with new_tables(db):
        added = _insert_meta(db, saved)
        head = rows.insert_revision(db, b"", LogRow(1, rows.now(), "init", "{}", None, [], added.digest()))
        if (found := fit_in_force(saved)) is None:
            return
        number, fit = found
        added = Added()
        rows.insert_calibration(db, added, 2, saved.calibrations[number][0].info, saved.calibrations[fit][1])
        head = rows.insert_revision(db, head, LogRow(2, rows.now(), "calibrate", "{}", 1, [], added.digest()))
        added, changes, holders = Added(), [], dict[int, int]()
        for new, (edit_id, (record, enabled, _)) in enumerate(live.items(), 1):
            old, _ = saved.records[record]
            holder = holder_of(saved, record)
            shared = holders.setdefault(holder, new)
            block = saved.records[holder][1] or b"" if shared == new else pack({})
            report = {name: value for name, value in json.loads(old.report).items() if name != "block"}
            report |= {"block": shared} if shared != new else {}
            changes.append(ChangeRow(edit_id, new, enabled))
            row = old._replace(id=new, revision=3, digest=digest(block), report=json.dumps(report), size=len(block))
            rows.put_record(db, added, row, block)
            rows.insert_keys(db, added, 3, new, 1, saved.keys[record, fit][1])
        detail = rows.to_json({"lost": lost[:100]}, "detail")
        rows.insert_revision(db, head, LogRow(3, rows.now(), "repair", detail, 1, changes, added.digest()))


def _insert_meta(db: sqlite3.Connection, saved: Saved) -> Added:
    return rows.insert_meta(db, dict(sorted(saved.meta.items())))
