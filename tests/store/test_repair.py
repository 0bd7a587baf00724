"""Repair: what is whole in a damaged store is saved into a new one, and what was lost is named."""

import json
import sqlite3
from contextlib import closing

import pytest
import torch
from support.forging import forge
from support.store_cases import block, keys, one_line, record, same, sql, state

from meloedit.errors import StoreError
from meloedit.store import Record, Store, rows, schema
from meloedit.store.repair import earlier, repair


@pytest.fixture
def old(store, path):
    """A store with a history: replaced, recalibrated, rolled back."""
    store.put([record("a", "Rome", seed=5), record("d", seed=6)], removed=["c"])
    store.calibrate({"mean": torch.ones(9)}, {"n": 2}, {name: keys(7) for name in "abd"})
    store.rollback(4)
    store.rescope({"n": 3})
    return store


def same_store(left, right):
    assert (left.revision, left.model, left.config) == (right.revision, right.model, right.config)
    assert left.history() == right.history()
    for at in range(1, left.revision + 1):
        assert left.edits(at) == right.edits(at)
    assert left.calibration()[2] == right.calibration()[2] and same(left.calibration()[1], right.calibration()[1])
    for edit_id, tensors in left.tensors().items():
        assert all(same(one, other) for one, other in zip(tensors, right.tensors()[edit_id], strict=True))


def test_a_whole_store_is_saved_whole(old, path, tmp_path):
    forge(path, "UPDATE calibrations SET created = '2020-02-02T02:02:02+00:00'")
    old = Store.open(path)
    found = repair(path, tmp_path / "new.melo")
    assert (found.edits, found.whole, found.lost, found.again) == (3, True, [], None)
    same_store(Store.open(tmp_path / "new.melo"), old)
    with closing(sqlite3.connect(tmp_path / "new.melo")) as db:
        assert db.execute("SELECT DISTINCT created FROM calibrations").fetchall() == [("2020-02-02T02:02:02+00:00",)]
    assert old.verify() == [] == Store.open(tmp_path / "new.melo").verify()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.__setitem__(slice(0, 100), bytes(100)),
        lambda data: data.__setitem__(slice(0, 2048), b"x" * 2048),
        lambda data: data.__setitem__(slice(200, 1500), bytes(1300)),
    ],
    ids=["header", "first page", "schema"],
)
def test_a_first_page_that_is_lost_costs_nothing(old, path, tmp_path, spoil):
    data = bytearray(path.read_bytes())
    spoil(data)
    (tmp_path / "bad.melo").write_bytes(data)
    with pytest.raises(StoreError):
        Store.open(tmp_path / "bad.melo")
    found = repair(tmp_path / "bad.melo", tmp_path / "new.melo")
    assert (found.edits, found.lost) == (3, [])
    same_store(Store.open(tmp_path / "new.melo"), old)
    assert (tmp_path / "bad.melo").read_bytes() == data, "the file itself is left as it is"


def test_what_is_lost_is_named_and_can_be_made_again(old, path, tmp_path):
    sql(
        path,
        "PRAGMA foreign_keys = OFF",
        "UPDATE records SET block = zeroblob(LENGTH(block)) WHERE id = 2",
        "UPDATE keys SET tensors = x'00' WHERE record = 3",
        "UPDATE changes SET enabled = 0 WHERE revision = 5",
    )
    found = repair(path, tmp_path / "new.melo")
    assert not found.whole and found.edits == 1
    assert {f"edit {name!r}: make it again, its text is whole" for name in "bc"} <= set(found.lost)
    assert "revision 5 is damaged or gone: what it changed is unknown" in found.lost and "the history" in found.lost
    lines = [json.loads(line) for line in found.again.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["b", "c"] and lines[0]["prompt"] == "Prompt of b?"
    new = Store.open(tmp_path / "new.melo")
    assert new.verify() == [] and state(new) == {"a": (1, True)}
    assert same(new.tensors()["a"][0], block(1)) and new.calibration_info() == {"n": 3}
    assert new.history()[-1].action == "repair" and found.lost[0] in new.history()[-1].detail["lost"]


@pytest.mark.parametrize("column", ["edit_id", "enabled", "record"])
def test_a_change_whose_value_became_of_another_kind_costs_its_revision(old, path, tmp_path, column):
    sql(path, "PRAGMA foreign_keys = OFF", f"UPDATE changes SET {column} = CAST('x' AS BLOB) WHERE revision = 4")
    found = repair(path, tmp_path / "new.melo")
    assert "revision 4 is damaged or gone: what it changed is unknown" in found.lost and found.edits == 3
    assert Store.open(tmp_path / "new.melo").verify() == []


def test_edits_of_an_unknown_state_come_back_disabled(old, path, tmp_path):
    sql(path, "PRAGMA foreign_keys = OFF", "DELETE FROM revisions", "DELETE FROM changes", "DELETE FROM head")
    sql(path, "INSERT INTO head VALUES (1, 8, zeroblob(32))")
    found = repair(path, tmp_path / "new.melo")
    new = Store.open(tmp_path / "new.melo")
    assert {edit.edit.id: edit.enabled for edit in new.edits()} == dict.fromkeys("abcd", False)
    assert any(line.startswith("whether these were enabled: '") for line in found.lost)


def test_a_shared_block_stays_with_the_edits_that_are_left(store, path, tmp_path):
    shared = [Record(record(name).edit, 2, "all", {}, block(9) if name == "p" else {}, keys(9)) for name in "pqr"]
    store.put(shared)
    store.remove(["p"])
    sql(path, "PRAGMA foreign_keys = OFF", "DELETE FROM keys WHERE record = 1")
    repair(path, tmp_path / "new.melo")
    new = Store.open(tmp_path / "new.melo")
    assert new.verify() == [] and list(state(new)) == ["b", "c", "q", "r"]
    assert new.get("r").holder == new.get("q").record == new.get("q").holder
    assert same(new.tensors()["q"][0], block(9))


def test_nothing_can_be_saved(path, store, tmp_path):
    sql(path, "DELETE FROM meta")
    (tmp_path / "text.melo").write_text("hello " * 1000)
    (tmp_path / "empty.melo").write_bytes(b"")
    for name in (path, tmp_path / "text.melo", tmp_path / "empty.melo"):
        with pytest.raises(StoreError, match="cannot be repaired: its settings") as error:
            repair(name, tmp_path / "new.melo")
        one_line(error)
        assert not (tmp_path / "new.melo").exists()
    with pytest.raises(StoreError, match="exists already"):
        repair(path, path)


def as_format_3(path, to):
    """Write a store as the version before wrote it."""
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(to, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
        for statement in earlier.EARLIER_STATEMENTS:
            new.execute(statement)
        for row in db.execute("SELECT * FROM meta"):
            new.execute("INSERT INTO meta VALUES (?, ?, ?)", row)
        for *row, blob in db.execute("SELECT id, created, info, tensors FROM calibrations"):
            check = schema.checksum(*row, blob)
            new.execute("INSERT INTO calibrations VALUES (?, ?, ?, ?, ?)", (*row, check, blob))
        columns = "id, edit_id, edit, content, rank, reach, report, block"
        for *row, blob in db.execute(f"SELECT {columns} FROM records"):
            new.execute("INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?)", (*row, schema.checksum(*row, blob), blob))
        for *row, blob in db.execute("SELECT record, calibration, tensors FROM keys"):
            new.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (*row, schema.checksum(*row, blob), blob))
        for row in db.execute("SELECT revision, time, action, detail, calibration FROM revisions").fetchall():
            query = "SELECT edit_id, record, enabled FROM changes WHERE revision = ? ORDER BY edit_id"
            changes = db.execute(query, row[:1]).fetchall()
            new.execute("INSERT INTO revisions VALUES (?,?,?,?,?,?)", (*row, schema.checksum(*row, changes)))
            new.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", [(row[0], *change) for change in changes])
        new.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        new.execute("PRAGMA user_version = 3")


def test_a_store_of_the_format_before_is_brought_over_with_its_history(store, path, tmp_path):
    store.put([record("a", "Rome", seed=5), record("d", seed=6)], removed=["c"])
    store.calibrate({"mean": torch.ones(9)}, {"n": 2}, {name: keys(7) for name in "abd"})
    store.rollback(4)
    old = tmp_path / "old.melo"
    as_format_3(path, old)
    with pytest.raises(
        StoreError, match="has format 3, this meloedit reads format 4: bring it over with: meloedit rep"
    ):
        Store.open(old)
    found = repair(old, tmp_path / "new.melo")
    assert (found.whole, found.lost) == (True, [])
    same_store(Store.open(tmp_path / "new.melo"), store)
    sql(old, "UPDATE records SET edit = REPLACE(edit, 'Paris', 'Pisa') WHERE id = 1")
    found = repair(old, tmp_path / "again.melo")
    assert "edit 'a': all of it" in found.lost and found.edits == 2


def test_a_repair_takes_the_lock_and_leaves_nothing_behind_when_it_fails(store, path, tmp_path, monkeypatch):
    with store.writing(), pytest.raises(StoreError, match="is being written by another process"):
        repair(path, tmp_path / "new.melo")

    def full(*_):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(rows, "insert_revision", full)
    with pytest.raises(StoreError):
        repair(path, tmp_path / "new.melo")
    assert {p.name for p in tmp_path.iterdir()} <= {
        "facts.melo",
        "facts.melo.lock",
        "facts.melo-journal",
        "new.melo.lock",
    }
