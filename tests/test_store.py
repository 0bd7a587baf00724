import errno
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from meloedit import rows, schema
from meloedit.edit import Edit
from meloedit.errors import MeloEditError, StoreError
from meloedit.store import ChangeRow, Record, Store

MODEL = {"name": "tiny", "fingerprint": "abc"}
CONFIG = {"rank": 2, "layers": [1, 2]}
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def block(seed, size=4):
    generator = torch.Generator().manual_seed(seed)
    return {"down.A": torch.randn(2, size, generator=generator), "down.B": torch.randn(size, 2, generator=generator)}


def keys(seed, size=3):
    return {"key": torch.randn(size, generator=torch.Generator().manual_seed(1000 + seed))}


def record(name, target="Paris", seed=0, size=4):
    edit = Edit(f"Prompt of {name}?", target, id=name, variants=(f"Say {name}",), metadata={"source": "test"})
    return Record(edit, 2, "answer", {"loss": 0.25, "steps": 7}, block(seed, size), keys(seed))


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def state(store, at=None):
    return {s.edit.id: (s.record, s.enabled) for s in store.edits(at)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "facts.melo"


@pytest.fixture
def store(path):
    """A store at revision 4: a, b (disabled) and c are live under calibration 1."""
    store = Store.create(path, MODEL, CONFIG)
    store.calibrate({"mean": torch.arange(3.0)}, {"n": 10}, {})
    store.put([record("a", seed=1), record("b", seed=2), record("c", seed=3)])
    store.set_enabled(["b"], False)
    return store


@contextmanager
def child(work):
    """Run ``work`` in a forked process; the parent gets its pid and must not leave before it is done or killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def finished(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ------------------------------------------------------------------------------------------------- what a store keeps


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


def test_any_dtype_view_and_shared_memory_is_stored(store):
    slab = torch.randn(5, 4, 6)
    shared = {"A": slab[1], "B": slab[1], "T": slab[2].T, "wide": torch.ones(1).expand(3), "none": torch.empty(0, 2)}
    halves = {"h": torch.randn(3).half(), "b": torch.randn(3).bfloat16(), "i": torch.arange(3), "f": slab.requires_grad_()[0]}
    store.put([Record(record("d").edit, 1, "all", {}, shared, halves)])
    stored_block, stored_keys = store.tensors(["d"])["d"]
    assert same(stored_block, shared) and same(stored_keys, halves)
    assert stored_keys["h"].dtype == torch.float16 and not stored_keys["f"].requires_grad


def test_odd_texts(store, path):
    chat = [{"role": "system", "content": "é\x00\ud800"}, {"role": "user", "content": "日本?"}]
    odd = Edit(chat, "東京 \ud83d", id="ñ'\"; DROP TABLE records; --\x00", quiet=("x\n",), metadata={"n": [1, None]})
    store.put([Record(odd, 2, "all", {"nan": float("inf")}, block(1), keys(1))])
    assert Store.open(path).get(odd.id).edit == odd
    assert store.history(odd.id)[-1].changes[0].edit_id == odd.id
    before = store.revision
    with pytest.raises(StoreError, match="no valid text"):
        store.put([Record(Edit("p", "t", id="\ud800"), 2, "all", {}, block(1), keys(1))])
    for broken in (lambda: store.put([], detail={1: object()}, removed=["a"]), lambda: store.calibrate({}, {"x": {1}},
    {})):
        with pytest.raises(StoreError):
            broken()
    with pytest.raises(StoreError, match="report must be JSON"):
        store.put([Record(Edit("p", "t"), 2, "all", {"x": object()}, block(1), keys(1))])
    assert store.revision == before == Store.open(path).revision and store.verify() == []


def test_replace_keeps_enabled_and_the_history_keeps_the_old_one(store):
    store.put([record("b", "Rome", seed=9), record("d")], "edit", removed=["a"], detail={"file": "x.jsonl"})
    assert state(store) == {"c": (3, True), "b": (4, False), "d": (5, True)}
    assert list(state(store)) == ["c", "b", "d"], "in the order of records"
    assert store.get("b").edit.target == "Rome"
    assert same(store.tensors("b")["b"][0], block(9))
    last = store.history()[-1]
    assert (last.revision, last.action, last.detail) == (5, "edit", {"file": "x.jsonl"})
    assert last.changes == [ChangeRow("a", None, True), ChangeRow("b", 4, False), ChangeRow("d", 5, True)]
    assert {s.edit.id: s.edit.target for s in store.edits(at=4)} == dict.fromkeys("abc", "Paris")
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


def test_copy(store, path, tmp_path):
    store.copy(tmp_path / "copy.melo")
    copy = Store.open(tmp_path / "copy.melo")
    assert (copy.revision, copy.edits(), copy.history()) == (store.revision, store.edits(), store.history())
    assert copy.verify() == []
    copy.remove(["a"])
    assert "a" in state(Store.open(path))
    with pytest.raises(StoreError, match="copy.melo exists already"):
        store.copy(tmp_path / "copy.melo")
    with pytest.raises(StoreError, match="facts.melo exists already"):
        store.copy(path)


# ------------------------------------------------------------------------------------------- calibration and rollback


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


def test_rollback_without_keys_is_refused(store):
    _sql(store.path, "DELETE FROM keys WHERE record = 1")
    store = None
    with pytest.raises(StoreError, match="edit 'a' has no keys under calibration 1"):
        Store.open(_path_of(store) if store else _last_path)


def _sql(path, *statements):
    global _last_path
    _last_path = path
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement).fetchall()


class Machine(RuleBasedStateMachine):
    """Changes of a store against a list of what was live after each."""

    ids = Bundle("ids")

    @initialize()
    def start(self):
        Machine.count = getattr(Machine, "count", 0) + 1
        self.path = Machine.folder / f"{Machine.count}.melo"
        self.store = Store.create(self.path, MODEL, CONFIG)
        self.store.calibrate({}, {}, {})
        self.snapshots = [({}, None), ({}, 1)]  # id -> (target, enabled, seed of block, seed of keys), calibration
        self.seed = 0
        self.calibrations = 1

    @property
    def now(self):
        return dict(self.snapshots[-1][0])

    def changed(self, live, calibration=None):
        self.snapshots.append((live, calibration or self.snapshots[-1][1]))

    @rule(names=st.sets(st.sampled_from("abcdef"), min_size=1), leave=st.sets(st.sampled_from("abcdef")))
    def put(self, names, leave):
        live, new = self.now, []
        for name in sorted(names):
            self.seed += 1
            new.append(record(name, f"target {self.seed}", self.seed))
            live[name] = (f"target {self.seed}", live.get(name, (0, True))[1], self.seed, self.seed)
        leave = sorted((leave & live.keys()) - names)
        for name in leave:
            del live[name]
        self.store.put(new, removed=leave)
        self.changed(live)

    @rule(data=st.data())
    def remove(self, data):
        live = self.now
        if live:
            names = data.draw(st.sets(st.sampled_from(sorted(live)), min_size=1))
            self.store.remove(sorted(names))
            self.changed({name: value for name, value in live.items() if name not in names})

    @rule(data=st.data(), enabled=st.booleans())
    def set_enabled(self, data, enabled):
        live = self.now
        if live:
            names = data.draw(st.sets(st.sampled_from(sorted(live)), min_size=1))
            self.store.set_enabled(sorted(names), enabled)
            new = {name: (v[0], enabled if name in names else v[1], *v[2:]) for name, v in live.items()}
            if new != live:
                self.changed(new)

    @rule()
    def calibrate(self):
        live = self.now
        self.seed += 1
        self.store.calibrate({}, {}, {name: keys(self.seed) for name in live})
        self.calibrations += 1
        self.changed({name: (*v[:3], self.seed) for name, v in live.items()}, self.calibrations)

    @rule(data=st.data())
    def rollback(self, data):
        to = data.draw(st.integers(1, len(self.snapshots)))
        self.store.rollback(to)
        live, calibration = self.snapshots[to - 1]
        self.changed(dict(live), calibration)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store.open(self.path)

    @rule(data=st.data())
    def read_the_past(self, data):
        at = data.draw(st.integers(1, len(self.snapshots)))
        past = self.snapshots[at - 1][0]
        assert {s.edit.id: (s.edit.target, s.enabled) for s in self.store.edits(at)} == {
            name: v[:2] for name, v in past.items()
        }
        leave, come = self.store.diff(at, self.store.revision)
        now = self.now
        assert set(leave) == {n for n in past if n not in now or past[n][:3] != now[n][:3]}
        assert set(come) == {n for n in now if n not in past or past[n][:3] != now[n][:3]}

    @invariant()
    def holds(self):
        if not hasattr(self, "store"):
            return
        live, calibration = self.snapshots[-1]
        assert self.store.revision == len(self.snapshots) and self.store.calibration_id == calibration
        edits = self.store.edits()
        assert {s.edit.id: (s.edit.target, s.enabled) for s in edits} == {name: v[:2] for name, v in live.items()}
        assert [s.record for s in edits] == sorted(s.record for s in edits)
        for name, (stored_block, stored_keys) in self.store.tensors().items():
            assert same(stored_block, block(live[name][2])) and same(stored_keys, keys(live[name][3]))

    def teardown(self):
        if hasattr(self, "store"):
            assert self.store.verify() == []
            assert Store.open(self.path).edits() == self.store.edits()


def test_any_sequence_of_changes(tmp_path):
    Machine.folder = tmp_path
    run = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Machine, settings=run)
