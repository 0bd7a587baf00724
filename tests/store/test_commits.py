"""Changes of a store, and what they leave behind."""

import os
from contextlib import contextmanager

import pytest
import torch
from support.store_cases import (
    CONFIG,
    MODEL,
    block,
    keys,
    record,
    same,
    state,
)

from meloedit.errors import StoreError
from meloedit.store import ChangeRow, Store, database


def test_new_store(path):
    with Store.create(str(path), MODEL, CONFIG) as store:
        assert (store.revision, store.model, store.config) == (1, MODEL, CONFIG)
        assert store.edits() == [] and store.tensors() == {} and store.calibration() is None
        (first,) = store.history()
        assert (first.revision, first.action, first.detail, first.changes) == (1, "init", {}, [])
        assert first.time.endswith("+00:00")
        assert store.verify() == []
    names = {"facts.melo", "facts.melo.lock", "facts.melo-journal"}
    assert {p.name for p in path.parent.iterdir()} <= names, "no draft is left"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask(), "as readable as any other new file"


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_put_and_read_back(store, path):
    assert store.revision == 4
    for opened in (store, Store.open(path)):
        a, b, c = opened.edits()
        assert (a.edit, a.rank, a.reach, a.report) == (record("a").edit, 2, "answer", {"loss": 0.25, "steps": 7})
        assert [s.enabled for s in (a, b, c)] == [True, False, True]
        assert [s.revision for s in (a, b, c)] == [3, 4, 3]
        assert [s.record for s in (a, b, c)] == [1, 2, 3]
        assert opened.get("b") == b
        tensors = opened.tensors()
        assert list(tensors) == ["a", "b", "c"]
        assert all(list(stored_block) == ["down.A", "down.B"] for stored_block, _ in tensors.values())
        for seed, (stored_block, stored_keys) in enumerate(tensors.values(), 1):
            assert same(stored_block, block(seed)) and same(stored_keys, keys(seed))
        assert list(opened.tensors(["c", "a"])) == ["c", "a"]
        assert list(opened.tensors("c")) == ["c"], "a string is one id"
        number, tensors, info = opened.calibration()
        assert (number, info, opened.calibration_id) == (1, {"n": 10}, 1)
        assert same(tensors, {"mean": torch.arange(3.0)})
        assert opened.verify() == []
    assert Store.open(path).edits() == store.edits()
    assert a.nbytes > sum(t.nbytes for t in [*block(1).values(), *keys(1).values()])


def test_what_changed_since(store):
    revision = store.revision
    assert store.changed_since(revision) == frozenset() and store.changed_since(revision - 1) == {"b"}
    assert store.changed_since(revision - 2) is None and Store.open(store.path).changed_since(0) is None
    store.put([record("c", seed=9), record("d", seed=4)], removed=["a"])
    assert store.changed_since(revision) == {"a", "c", "d"}
    assert store.find("a") is None and store.find("d") == store.get("d")


def test_replace_keeps_enabled_and_the_history_keeps_the_old_one(store):
    store.put([record("b", "Rome", seed=9), record("d")], "edit", removed=["a"])
    assert state(store) == {"c": (3, True), "b": (4, False), "d": (5, True)}
    assert list(state(store)) == ["c", "b", "d"], "in the order of records"
    assert store.get("b").edit.target == "Rome"
    assert same(store.tensors("b")["b"][0], block(9))
    last = store.history()[-1]
    assert (last.revision, last.action, last.detail) == (5, "edit", {})
    assert last.changes == [ChangeRow("a", None, True), ChangeRow("b", 4, False), ChangeRow("d", 5, True)]
    assert {s.edit.id: s.edit.target for s in store.edits(at=4)} == {name: "Paris" for name in "abc"}
    assert store.diff(4, 5) == (["a", "b"], ["b", "d"])
    assert store.diff(5, 4) == (["b", "d"], ["a", "b"])
    assert store.diff(3, 4) == (["b"], ["b"])
    assert store.diff(5, 5) == ([], [])


def test_remove_and_enable(store):
    assert store.remove(["a"]) == 5 and list(state(store)) == ["b", "c"]
    assert store.set_enabled(["b", "c", "b"], True) == 6
    assert store.history()[-1].changes == [ChangeRow("b", 2, True)], "c was enabled already"
    assert [r.action for r in store.history()] == ["init", "calibrate", "edit", "disable", "remove", "enable"]
    assert store.remove("c") == 7 and list(state(store)) == ["b"]
    assert store.put([record("a", seed=4)]) == 8
    assert state(store) == {"b": (2, True), "a": (4, True)}, "a removed edit comes back as a new record"


def test_nothing_to_do_makes_no_revision(store):
    assert store.put([]) == store.remove([]) == store.set_enabled(["b"], False) == store.set_enabled([], True) == 4
    assert len(store.history()) == 4


def test_put_refuses_what_is_ambiguous(store):
    with pytest.raises(StoreError, match="'d' comes twice"):
        store.put([record("d"), record("d", "Rome")])
    with pytest.raises(StoreError, match="'a' comes twice"):
        store.put([record("a")], removed=["a"])
    assert store.revision == 4


def test_no_edit_before_the_first_calibration(path):
    store = Store.create(path, MODEL, CONFIG)
    with pytest.raises(StoreError, match="no calibration yet: calibrate before"):
        store.put([record("a")])
    assert store.revision == 1


def test_unknown_ids_name_close_ones(store):
    store.put([record(name) for name in ("capital-fr", "capital-de", "capital-it", "capital-es")])
    before = store.revision
    for call in (
        lambda: store.get("capital-f"),
        lambda: store.remove(["a", "capital-f"]),
        lambda: store.set_enabled(["capital-f"], True),
        lambda: store.tensors(["capital-f"]),
        lambda: store.put([record("z")], removed=["capital-f"]),
        lambda: store.calibrate({}, {}, {"capital-f": keys(1)}),
    ):
        with pytest.raises(StoreError, match=r"has no edit 'capital-f'; did you mean 'capital-fr' or '.*' or '.*'\?$"):
            call()
    with pytest.raises(StoreError, match="has no edit '0xff'; see them with: meloedit ls"):
        store.get("0xff")
    assert store.revision == before and "a" in state(store)


@pytest.mark.parametrize("ids", [None, [None], 5, [5], [["a"]], b"a"])
def test_ids_that_are_none(store, ids):
    for call in (store.remove, lambda ids: store.set_enabled(ids, False), lambda ids: store.put([], removed=ids)):
        with pytest.raises(StoreError, match="give ids of edits, which are strings, not "):
            call(ids)
    assert store.revision == 4 and len(store.edits()) == 3


def test_an_interrupt_right_after_the_commit_leaves_memory_in_step(store, path, monkeypatch):
    open_database = database.open_database

    class Interrupted:
        """A connection whose COMMIT is the last thing that is done before Ctrl-C."""

        def __init__(self, db):
            self._db = db

        def execute(self, statement, *values):
            done = self._db.execute(statement, *values)
            if statement == "COMMIT":
                raise KeyboardInterrupt
            return done

        def __getattr__(self, name):
            return getattr(self._db, name)

    @contextmanager
    def interrupted(*args):
        with open_database(*args) as db:
            yield Interrupted(db)

    with monkeypatch.context() as patch:
        patch.setattr(database, "open_database", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.remove(["a"])
    assert store.revision == 5 and list(state(store)) == ["b", "c"] == list(state(Store.open(path)))
    assert store.remove(["b"]) == 6


def test_another_scope_for_the_same_keys_takes_no_tensors(store, path):
    store.calibrate({"big": torch.rand(200_000)}, {"n": 1}, {name: keys(5) for name in "abc"})
    size = path.stat().st_size
    for number in range(5):
        store.rescope({"n": number})
    assert path.stat().st_size - size < 20_000
    assert (store.calibration_id, store.calibration()[2]) == (7, {"n": 4})
    assert same(store.tensors()["b"][1], keys(5)) and len(store.calibration()[1]["big"]) == 200_000
    store.put([record("d", seed=9)])
    store.rollback(5)
    assert (store.calibration_id, list(state(store))) == (2, ["a", "b", "c"])
    store.rollback(store.revision - 1)
    for opened in (store, Store.open(path)):
        assert same(opened.tensors()["d"][1], keys(9)) and opened.verify() == []
    with pytest.raises(StoreError, match="has no calibration yet"):
        Store.create(path.with_name("new.melo"), MODEL, CONFIG).rescope({})
