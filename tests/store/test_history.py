"""The history: revisions, rollback, and calibrations that come and go."""

import pytest
import torch
from support.store_cases import block, keys, record, same, sql, state

from meloedit.errors import StoreError
from meloedit.store import ChangeRow, Store


def test_history(store):
    store.remove(["b"])
    store.set_enabled(["c"], False)
    assert [r.revision for r in store.history()] == [1, 2, 3, 4, 5, 6]
    assert [r.revision for r in store.history(limit=2)] == [5, 6]
    assert store.history(limit=0) == [] == store.history("b", 0)
    assert [r.changes for r in store.history("b")] == [
        [ChangeRow("b", 2, True)],
        [ChangeRow("b", 2, False)],
        [ChangeRow("b", None, False)],
    ]
    assert [r.revision for r in store.history("b", 2)] == [4, 5]
    with pytest.raises(StoreError, match="has no edit 'bb'; did you mean 'b'"):
        store.history("bb")


def test_recalibration_needs_keys_of_every_live_edit(store, path):
    with pytest.raises(StoreError, match="no keys of edit 'b'"):
        store.calibrate({}, {}, {"a": keys(4), "c": keys(5)})
    sizes = [s.nbytes for s in store.edits()]
    revision = store.calibrate({"mean": torch.ones(2)}, {"n": 20}, {"a": keys(4, 9), "b": keys(5, 9), "c": keys(6, 9)})
    assert revision == 5 and store.calibration()[0] == 2
    assert same(store.tensors("a")["a"][1], keys(4, 9)) and same(store.tensors("a")["a"][0], block(1))
    assert [s.nbytes for s in store.edits()] == [size + 24 for size in sizes]
    assert [s.nbytes for s in store.edits(at=4)] == sizes
    assert [s.revision for s in store.edits()] == [3, 4, 3], "the edits are what they were"
    assert Store.open(path).edits() == store.edits()
    assert store.verify() == []


def test_rollback_brings_back_edits_and_calibration(store, path):
    store.put([record("a", "Rome", seed=7), record("d", seed=8)], removed=["c"])  # 5
    store.calibrate({}, {"n": 2}, {name: keys(9) for name in "abd"})  # 6
    store.set_enabled(["b"], True)  # 7
    assert store.rollback(4) == 8
    for opened in (store, Store.open(path)):
        assert state(opened) == {"a": (1, True), "b": (2, False), "c": (3, True)}
        assert opened.calibration()[0] == 1
        assert same(opened.tensors()["a"][1], keys(1))
        last = opened.history()[-1]
        assert (last.action, last.detail) == ("rollback", {"to": 4})
        assert last.changes == [
            ChangeRow("a", 1, True),
            ChangeRow("b", 2, False),
            ChangeRow("c", 3, True),
            ChangeRow("d", None, True),
        ]
        assert [s.revision for s in opened.edits()] == [8, 8, 8]
    assert store.rollback(7) == 9, "a rollback can be rolled back"
    assert state(store) == state(store, 7) and store.calibration_id == 2
    assert store.verify() == []


def test_rollback_to_before_the_first_calibration_keeps_one(store):
    store.rollback(1)
    assert store.edits() == [] and store.calibration_id == 1
    store.put([record("e")])
    assert store.verify() == []


def test_unknown_revisions(store):
    for call in (store.rollback, store.edits, lambda r: store.diff(r, 1), lambda r: store.diff(1, r)):
        for revision in (0, -1, 5, 2**70):
            with pytest.raises(StoreError, match=rf"has no revision {revision}: it has 1 to 4"):
                call(revision)
    assert store.revision == 4


def test_rollback_without_keys_is_refused(store, path):
    store.remove(["a"])
    sql(path, "DELETE FROM keys WHERE record = 1")
    with pytest.raises(StoreError, match="damaged .edit 'a' has no keys under calibration 1"):
        store.rollback(4)
    assert store.revision == 5
    with pytest.raises(StoreError, match="rows that revision 3 added are missing"):
        Store.open(path)


def test_odd_arguments_of_history(store):
    assert store.history(limit=2**70) == store.history()
    with pytest.raises(StoreError, match="give the id of one edit"):
        store.history(["a"])
