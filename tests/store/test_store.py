import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from meloedit.edit import Edit
from meloedit.errors import MeloEditError, StoreError
from meloedit.store import database, integrity, rows, schema
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


def test_stacks_are_the_tensors_of_each(store):
    """Blocks of one layout come as one tensor; another rank, and none at all, come beside them."""
    none = {"key": torch.zeros(0, 3)}
    store.put([record("d", seed=4, size=6), record("e", seed=5), replace(record("f", seed=6), keys=none)])
    blocks, keys_ = store.stacks(["a", "c", "d", "e", "f"])
    assert sorted(len(numbers) for numbers, _ in blocks) == [1, 4]
    for index, stacks in enumerate((blocks, keys_)):
        found = {
            number: {name: tensor[i] for name, tensor in tensors.items()}
            for numbers, tensors in stacks
            for i, number in enumerate(numbers)
        }
        for edit_id in "acdef":
            assert same(found[store.get(edit_id).record], store.tensors([edit_id])[edit_id][index])


def test_what_changed_since(store):
    revision = store.revision
    assert store.changed_since(revision) == frozenset() and store.changed_since(revision - 1) == {"b"}
    assert store.changed_since(revision - 2) is None and Store.open(store.path).changed_since(0) is None
    store.put([record("c", seed=9), record("d", seed=4)], removed=["a"])
    assert store.changed_since(revision) == {"a", "c", "d"}
    assert store.find("a") is None and store.find("d") == store.get("d")


def test_any_dtype_view_and_shared_memory_is_stored(store):
    slab = torch.randn(5, 4, 6)
    shared = {"A": slab[1], "B": slab[1], "T": slab[2].T, "wide": torch.ones(1).expand(3), "none": torch.empty(0, 2)}
    halves = {
        "h": torch.randn(3).half(),
        "b": torch.randn(3).bfloat16(),
        "i": torch.arange(3),
        "f": slab.requires_grad_()[0],
    }
    store.put([Record(record("d").edit, 1, "all", {}, shared, halves)])
    stored_block, stored_keys = store.tensors(["d"])["d"]
    assert same(stored_block, shared) and same(stored_keys, halves)
    assert stored_keys["h"].dtype == torch.float16 and not stored_keys["f"].requires_grad


def test_odd_texts(store, path):
    chat = [{"role": "system", "content": "é\x00\x1b"}, {"role": "user", "content": "日本?"}]
    odd = Edit(chat, "東京 \x7f", id="ñ'\"; DROP TABLE records; --\x00", quiet=("x\n",), metadata={"n": [1, None]})
    store.put([Record(odd, 2, "all", {"nan": float("inf")}, block(1), keys(1))])
    assert Store.open(path).get(odd.id).edit == odd
    assert store.history(odd.id)[-1].changes[0].edit_id == odd.id
    before = store.revision
    with pytest.raises(StoreError, match="no valid text"):
        store.put([], action="\ud800", removed=["a"])
    for broken in (
        lambda: store.put([], detail={1: object()}, removed=["a"]),
        lambda: store.calibrate({}, {"x": {1}}, {}),
    ):
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


def sql(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement).fetchall()


def test_rollback_without_keys_is_refused(store, path):
    store.remove(["a"])
    sql(path, "DELETE FROM keys WHERE record = 1")
    with pytest.raises(StoreError, match="damaged .edit 'a' has no keys under calibration 1"):
        store.rollback(4)
    assert store.revision == 5 == Store.open(path).revision
    sql(path, "DELETE FROM keys WHERE record = 2")
    with pytest.raises(StoreError, match="edit 'b' has no keys"):
        Store.open(path)
    assert store.verify() == ["edit 'b' has no keys under the calibration in force"]


class Machine(RuleBasedStateMachine):
    """Changes of a store against a list of what was live after each."""

    folder = None

    @initialize()
    def start(self):
        self.path = Machine.folder / f"{len(list(Machine.folder.iterdir()))}.melo"
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
    run_state_machine_as_test(Machine, settings=run)


# ------------------------------------------------------------------------------------------------ one file, many users


def test_two_objects(store, path):
    other = Store.open(path)
    with store.writing():
        with pytest.raises(StoreError, match=r"facts.melo is being written by another process; try again when it is"):
            other.put([record("d")])
        with store.writing():
            store.put([record("d")])
        assert list(state(other)) == ["a", "b", "c"]
    for call in (lambda: other.put([record("e")]), lambda: other.rollback(1), lambda: other.writing().__enter__()):
        with pytest.raises(StoreError, match=r"changed since it was opened \(revision 4, now 5\): open it again"):
            call()
    assert list(other.tensors()) == ["a", "b", "c"] and len(other.history()) == 4, "what it loaded, it still reads"
    store.put([record("f")])
    assert Store.open(path).put([record("e")]) == 7


def test_replaced_or_deleted_file(store, path):
    store.copy(path.with_name("other.melo"))
    os.replace(path.with_name("other.melo"), path)
    with pytest.raises(StoreError, match="was replaced since it was opened: open it again"):
        store.remove(["a"])
    path.unlink()
    for call in (lambda: store.remove(["a"]), store.tensors, store.history):
        with pytest.raises(StoreError, match="no store at"):
            call()


@pytest.mark.parametrize("way", [shutil.copyfile, os.replace])
def test_a_store_swapped_while_a_writer_trains(store, path, tmp_path, way):
    other = Store.create(tmp_path / "other.melo", MODEL, CONFIG)
    other.calibrate({}, {}, {})
    other.put([record("x")])
    other.put([record("y")])  # at the same revision as the store
    before = (tmp_path / "other.melo").read_bytes()
    words = "was replaced" if way is os.replace else "was overwritten"
    with pytest.raises(StoreError, match=f"{words} since it was opened: open it again"), store.writing():
        way(tmp_path / "other.melo", path)
        store.put([record("d")])
    assert path.read_bytes() == before and store.revision == 4
    assert list(state(Store.open(path))) == ["x", "y"]


def test_a_store_changed_by_a_program_that_takes_no_lock(store, path):
    with pytest.raises(StoreError, match=r"changed since it was opened \(revision 4, now 5\)"), store.writing():
        sql(path, "INSERT INTO revisions SELECT 5, time, action, detail, calibration, sha256 FROM revisions LIMIT 1")
        store.put([record("d")])


@pytest.mark.parametrize("ids", [None, [None], 5, [5], [["a"]], b"a"])
def test_ids_that_are_none(store, ids):
    for call in (store.remove, lambda ids: store.set_enabled(ids, False), lambda ids: store.put([], removed=ids)):
        with pytest.raises(StoreError, match="give ids of edits, which are strings, not "):
            call(ids)
    assert store.revision == 4 and len(store.edits()) == 3


def test_metadata_of_old_that_is_too_deep(store, path):
    deep = json.dumps(record("a").edit.to_dict())[:-1] + ', "metadata": ' + "[" * 50_000 + "]" * 50_000 + "}"
    sql(path, f"UPDATE records SET edit = '{deep}' WHERE id = 1")
    with pytest.raises(StoreError, match="edit 'a' cannot be read"):
        Store.open(path)


def test_links_meet_at_one_lock(store, path, tmp_path):
    (tmp_path / "link.melo").symlink_to(path)
    with store.writing(), pytest.raises(StoreError, match="link.melo is being written"):
        Store.open(tmp_path / "link.melo").remove(["a"])


def test_closed(store):
    with store:
        pass
    for call in (store.tensors, store.history, lambda: store.remove(["a"]), lambda: store.writing().__enter__()):
        with pytest.raises(StoreError, match="is closed: open it again"):
            call()


@posix
def test_two_processes(store, path):
    ready, go = os.pipe(), os.pipe()

    def work():
        other = Store.open(path)
        with other.writing():
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            other.remove(["a"])

    with child(work) as pid:
        os.read(ready[0], 1)
        with pytest.raises(StoreError, match="is being written by another process"):
            store.remove(["b"])
        assert list(store.tensors()) == ["a", "b", "c"], "readers are not disturbed"
        os.write(go[1], b"x")
        assert finished(pid) == 0
    with pytest.raises(StoreError, match=r"revision 4, now 5"):
        store.remove(["b"])
    assert Store.open(path).remove(["b"]) == 6


@posix
def test_readers_and_a_writer_do_not_disturb_each_other(store, path):
    def work():
        until = time.monotonic() + 1
        while time.monotonic() < until:
            reader = Store.open(path)
            assert len(reader.tensors()) == len(reader.edits()) == reader.revision - 1

    with child(work) as pid:
        number = 0
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            store.put([record(f"e{number}", seed=number, size=300)])
            number += 1
        assert number > 10
    assert store.verify() == []


def test_threads_share_a_store(store, path):
    failures = []

    def write(name):
        try:
            for i in range(8):
                store.put([record(f"{name}{i}")])
                store.set_enabled([f"{name}{i}"], False)
                store.remove([f"{name}{i}"])
        except BaseException as error:
            failures.append(error)

    def read():
        try:
            while any(thread.is_alive() for thread in writers):
                ids = [s.edit.id for s in store.edits()]
                assert ids[:3] == ["a", "b", "c"] and len(store.tensors()) >= 3 and store.get("a")
                assert [r.revision for r in store.history()][:4] == [1, 2, 3, 4]
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers + readers:
        thread.join()
    assert failures == []
    assert store.revision == 4 + 3 * 8 * 3 and list(state(store)) == ["a", "b", "c"]
    assert Store.open(path).edits() == store.edits() and store.verify() == []


def test_a_thread_waits_for_another_that_writes(store):
    with store.writing():
        thread = threading.Thread(target=store.remove, args=(["a"],))
        thread.start()
        store.remove(["b"])
        assert thread.is_alive() and store.revision == 5
    thread.join()
    assert list(state(store)) == ["c"] and store.revision == 6


def test_writing_lets_go_after_an_error(store, path):
    with pytest.raises(ZeroDivisionError), store.writing():
        store.put([record("d")])
        raise ZeroDivisionError
    assert Store.open(path).remove(["d"]) == 6


# ----------------------------------------------------------------------------------------------- what a crash may do


@posix
def test_a_killed_writer_leaves_whole_edits(path):
    """Big transactions, which write into the file before they are committed, cut off at random moments."""
    Store.create(path, MODEL, CONFIG).calibrate({}, {}, {})
    chance, batch, found = random.Random(7), 30, 0

    def work():
        store = Store.open(path)
        while True:
            first = store.revision
            store.put([record(f"{first}-{i}", seed=i, size=6000) for i in range(batch)])

    for _ in range(10):
        with child(work) as pid:
            time.sleep(chance.uniform(0.01, 0.5))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            store = Store.open(path)
            assert store.verify() == []
            assert store.revision == len(store.history())
            ids = {f"{first}-{i}" for first in range(2, store.revision) for i in range(batch)}
            assert {s.edit.id for s in store.edits()} == ids
            found = len(store.tensors())
            assert found == len(ids)
    assert found, "some transactions were committed"
    store.put([record("after")])
    assert Store.open(path).verify() == []


@posix
def test_a_killed_maker_leaves_no_half_store(tmp_path):
    chance = random.Random(3)

    def work():
        for number in range(10**6):
            Store.create(tmp_path / f"{os.getpid()}-{number}.melo", MODEL, CONFIG)

    for _ in range(6):
        with child(work) as pid:
            time.sleep(chance.uniform(0.005, 0.25))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    made = list(tmp_path.glob("*.melo"))
    assert made
    for path in made:
        assert Store.open(path).revision == 1


def test_a_failed_make_leaves_nothing(path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    for part in ("_publish", "connect"):
        with monkeypatch.context() as patch:
            patch.setattr(database, part, stop)
            with pytest.raises(KeyboardInterrupt):
                Store.create(path, MODEL, CONFIG)
        assert {p.name for p in path.parent.iterdir()} <= {"facts.melo.lock"}
    with pytest.raises(StoreError, match="config must be JSON"):
        Store.create(path, MODEL, {"x": object()})
    assert {p.name for p in path.parent.iterdir()} <= {"facts.melo.lock"}
    Store.create(path, MODEL, CONFIG)


def test_never_in_place_of_another_file(path, monkeypatch):
    for make in (lambda: path.write_text("mine"), path.mkdir):
        make()
        with pytest.raises(StoreError, match="facts.melo exists already and is left as it is: choose another name"):
            Store.create(path, MODEL, CONFIG)
        path.rmdir() if path.is_dir() else path.unlink()
    link, late = os.link, []

    def other_is_faster(source, target):
        if not late:
            late.append(path.write_text("mine"))
        return link(source, target)

    monkeypatch.setattr(os, "link", other_is_faster)
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, MODEL, CONFIG)
    assert path.read_text() == "mine"


def test_a_file_system_without_hard_links(path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert Store.create(path, MODEL, CONFIG).verify() == []
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, MODEL, CONFIG)


def test_a_journal_of_a_deleted_store_is_not_played_back(path):
    Path(f"{path}-journal").write_bytes(b"old")
    with pytest.raises(StoreError, match="facts.melo-journal is left from an earlier store of this name: delete it"):
        Store.create(path, MODEL, CONFIG)
    assert not path.exists()


# --------------------------------------------------------------------------------------------- errors in clear words


def one_line(error):
    message = str(error.value)
    assert "\n" not in message and len(message) < 300
    return message


def test_what_is_not_a_store(tmp_path):
    (tmp_path / "text").write_text("prompt,target\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    sql(tmp_path / "other", "CREATE TABLE t (x)")
    Store.create(tmp_path / "new", MODEL, CONFIG)
    sql(tmp_path / "new", "PRAGMA user_version = 7")
    Store.create(tmp_path / "zero", MODEL, CONFIG)
    sql(tmp_path / "zero", "PRAGMA user_version = 0")
    for name, words in {
        "none": "no store at none; make one with: meloedit init none --model MODEL",
        "text/none": "no store at text/none; make one with",
        ".": ". is a folder, not a store",
        "text": "text is not a meloedit store (it is no SQLite file",
        "empty": "empty is not a meloedit store (it is empty",
        "other": "other is not a meloedit store (it is empty, or another program's SQLite file)",
        "new": "new has format 7, this meloedit reads up to 1: upgrade meloedit",
        "zero": "zero is damaged (its format is 0, the first one is 1)",
    }.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            before = sorted(tmp_path.iterdir())
            with pytest.raises(StoreError) as error:
                Store.open(name)
            assert one_line(error).startswith(words)
            assert sorted(tmp_path.iterdir()) == before, "opening makes no file"
    with pytest.raises(StoreError, match="there is no folder .*; make it first"):
        Store.create(tmp_path / "sub" / "new", MODEL, CONFIG)


@pytest.mark.parametrize("mode", ["WAL", "PERSIST"])
def test_another_programs_database_is_left_as_it_is(tmp_path, mode):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE t (x)")
        db.commit()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(StoreError, match="is not a meloedit store"):
        Store.open(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def limit_pages(monkeypatch, more):
    connect = database.connect

    def limited(path, mode):
        db = connect(path, mode)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + more}").fetchall()
        return db

    monkeypatch.setattr(database, "connect", limited)


def test_disk_full(store, path, monkeypatch):
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        limit_pages(patch, 5)
        with pytest.raises(StoreError, match="disk is full: this change is not stored, those before are") as error:
            store.put([record(f"e{i}", size=500) for i in range(9)])
        one_line(error)
        assert store.revision == 4 and list(state(store)) == ["a", "b", "c"]
    assert path.read_bytes() == before
    assert store.put([record("e", size=500)]) == 5 and store.verify() == []


def test_disk_error(store, path):
    """A limit on the size of files: the write itself fails, for the journal and for a spilled page alike."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, count in ((path.stat().st_size + 3000, 1), (path.stat().st_size + 10_000, 60)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(StoreError, match="facts.melo cannot (be read or written|grow): ") as error:
                store.put([record(f"e{i}", size=6000) for i in range(count)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        one_line(error)
        assert store.revision == 4 and store.verify() == []
        assert Store.open(path).edits() == store.edits()
    assert store.put([record("e")]) == 5


def test_locked_by_another_program(store, path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (store.tensors, lambda: Store.open(path), lambda: store.remove(["a"])):
            with pytest.raises(StoreError, match="is locked by another process; try again when it is done"):
                call()
        assert store.verify() == [f"{path} is locked by another process; try again when it is done"]
        other.execute("ROLLBACK")
        cursor = other.execute("SELECT * FROM records")
        cursor.fetchone()  # a reader with an open cursor: COMMIT is refused
        with pytest.raises(StoreError, match="is locked"):
            store.remove(["a"])
        cursor.close()
    assert store.revision == 4 and store.remove(["a"]) == 5 and store.verify() == []


def attempt(call, words):
    with pytest.raises(StoreError) as error:
        call()
    assert words in one_line(error), one_line(error)


def as_somebody_else(folder, work):
    """Run ``work`` in a process to which read-only means something, as it does not to root."""

    def in_child():
        if os.geteuid() == 0:
            os.setuid(65534)
        if not os.access(folder, os.X_OK):
            os._exit(77)
        work()

    with child(in_child) as pid:
        code = finished(pid)
    if code == 77:
        pytest.skip("another user cannot reach the folder")
    assert code == 0


@posix
def test_read_only(store, path):
    folder, parents = path.parent, [p for p in path.parents if "pytest-" in str(p)]
    modes = [(p, p.stat().st_mode & 0o777) for p in parents]
    store.tensors()

    def file_only():
        opened = Store.open(path)
        assert list(state(opened)) == ["a", "b", "c"] and opened.tensors()
        attempt(lambda: opened.remove(["a"]), "cannot be written: the file or its folder is read-only")
        assert opened.revision == 4 and list(state(opened)) == ["a", "b", "c"]

    def folder_too():
        opened = Store.open(path)
        assert list(state(opened)) == ["a", "b", "c"] and opened.tensors()
        attempt(lambda: opened.remove(["a"]), "cannot be written: no facts.melo.lock can be made (Permission denied)")
        attempt(lambda: Store.create(folder / "new.melo", MODEL, CONFIG), "new.melo cannot be written")

    try:
        for parent in parents:
            parent.chmod(0o755)
        folder.chmod(0o777)
        path.chmod(0o444)
        Path(f"{path}.lock").chmod(0o666)
        as_somebody_else(folder, file_only)
        Path(f"{path}.lock").unlink()
        folder.chmod(0o555)
        as_somebody_else(folder, folder_too)
        path.chmod(0)
        as_somebody_else(folder, lambda: attempt(lambda: Store.open(path), "cannot be opened: check the permissions"))
    finally:
        for parent, mode in modes:
            parent.chmod(mode)


def everything(path):
    """All that can be read, as text; a store that says it has very many revisions is damaged."""
    store = Store.open(path)
    if store.revision > 50:
        raise StoreError("damaged")
    tensors = [store.calibration(), sorted(store.tensors().items())]
    past = [store.edits(at) for at in range(1, store.revision + 1)]
    return repr((store.revision, store.model, store.config, store.edits(), past, store.history(), tensors))


def damage_is_found(path, data, good):
    """Whatever the bytes of a file: reading gives all the right values, or one clear error, or verify() finds it."""
    for name in (path, Path(f"{path}-journal")):
        name.unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        if everything(path) == good:
            return False
        assert Store.open(path).verify()
    except StoreError as error:
        assert "\n" not in str(error)
    return True


@pytest.fixture
def full(store, path):
    store.put([record("a", "Rome", seed=5), record("d", seed=6, size=400)], removed=["c"])
    store.calibrate({"mean": torch.ones(9)}, {}, {name: keys(7) for name in "abd"})
    store.rollback(4)
    store.put([record("e", seed=8, size=400)])
    return path.read_bytes()


def test_truncated_files(full, path, tmp_path):
    good, pages = everything(path), len(full) // schema.PAGE_SIZE
    copy = tmp_path / "copy.melo"
    assert not damage_is_found(copy, full, good)
    cuts = [0, 1, 15, 16, 50, 99, 100, 101, 511, 512, 1000, 2047, 2048, 2049, len(full) // 2, len(full) - 2048]
    for size in [*cuts, *(page * schema.PAGE_SIZE + 700 for page in range(1, pages))]:
        assert damage_is_found(copy, full[:size], good), size
    copy.write_bytes(full[:-1])  # within the last page: the store opens, for SQLite counts pages
    with pytest.raises(StoreError, match="damaged"):
        Store.open(copy).tensors()


def test_flipped_bytes(full, path, tmp_path):
    good, chance, found = everything(path), random.Random(11), 0
    for _ in range(150):
        data = bytearray(full)
        position = chance.choice([chance.randrange(2048), chance.randrange(len(full))])
        data[position] ^= 1 << chance.randrange(8)
        found += damage_is_found(tmp_path / "copy.melo", bytes(data), good)
    assert found > 30, "the others fell on unused bytes"


def test_damage_that_sqlite_itself_stumbles_over(full, path):
    path.write_bytes(full.replace(b"CREATE TABLE records", b"CREATE TABL\xff records"))  # its message is not UTF-8
    with pytest.raises(StoreError, match="facts.melo is damaged") as error:
        Store.open(path)
    one_line(error)

    class OutOfOrder:
        def execute(self, query, values):
            return self

        def fetchall(self):
            return [(5, "x"), (3, "y")]

    assert list(integrity._in_pieces(OutOfOrder(), "a", "t")) == [("x",), ("y",)], "and not forever"


def test_a_wrong_checksum_names_the_edit(store, path):
    sql(path, "UPDATE records SET block = zeroblob(LENGTH(block)) WHERE edit_id = 'b'")
    with pytest.raises(StoreError, match="edit 'b' does not match its checksum"):
        store.tensors()
    assert list(store.tensors(["a", "c"])) == ["a", "c"]
    assert store.verify() == ["edit 'b' (record 2): does not match its checksum"]
    sql(path, "UPDATE keys SET tensors = zeroblob(LENGTH(tensors)) WHERE record = 3")
    with pytest.raises(StoreError, match="the keys of edit 'c' do not match their checksum"):
        store.tensors(["a", "c"])
    sql(path, "UPDATE calibrations SET info = '{}'")
    with pytest.raises(StoreError, match="calibration 1 does not match its checksum"):
        store.calibration()
    store.remove(["b"])
    assert list(Store.open(path).tensors(["a"])) == ["a"], "what is not damaged stays usable"


def test_verify_finds_what_pages_do_not_show(store, path):
    whole = path.read_bytes()
    for statement, words in {
        "UPDATE changes SET enabled = 1 WHERE revision = 4": "revision 4 does not match",
        "UPDATE changes SET record = 2 WHERE revision = 3 AND edit_id = 'a'": "the record of another edit",
        "UPDATE revisions SET time = 'yesterday' WHERE revision = 2": "revision 2 does not match",
        "UPDATE records SET edit = REPLACE(edit, 'Paris', 'Pisa') WHERE id = 1": "edit 'a' (record 1)",
        "DELETE FROM revisions WHERE revision = 2": "revision 2 is missing",
        "DELETE FROM records WHERE id = 2": "refers to something missing in records",
        "DELETE FROM keys WHERE record = 2": "edit 'b' has no keys",
        "UPDATE meta SET value = '{}'": "meta 'config'",
    }.items():
        path.write_bytes(whole)
        assert store.verify() == []
        sql(path, statement)
        assert any(words in problem for problem in store.verify()), (statement, store.verify())
    with pytest.raises(StoreError, match="its model does not match its checksum"):
        Store.open(path)


def test_lists_of_the_scope_are_kept_beside_the_history(store, path):
    assert store.lists() is None, "none were kept"
    lists = {"near": torch.rand(5, 4), "owner": torch.arange(20, dtype=torch.int32).view(5, 4)}
    revision, history = store.revision, store.history()
    for held in (frozenset({1, 3}), frozenset({3})):
        store.keep_lists(lists)
        again = Store.open(path)
        assert again.lists()[1] == held and same(again.lists()[0], lists)
        assert (again.revision, again.verify()) == (store.revision, [])
        if len(held) == 2:
            assert (revision, history) == (store.revision, store.history())
            store.remove(["a"])  # lists of an earlier time say which edits they are of
            assert store.lists()[1] == held
    store.calibrate({"mean": torch.arange(3.0)}, {}, {name: keys(9) for name in ("b", "c")})
    assert store.lists() is None, "they are of another calibration"
    store.keep_lists(lists)
    for damage in ("UPDATE lists SET revision = 3", "UPDATE lists SET tensors = 'text'", "DELETE FROM lists"):
        store.keep_lists(lists)
        assert store.lists() is not None
        sql(path, damage)
        assert store.lists() is None and store.verify() == [], "what can be derived is no loss"
    sql(path, "DROP TABLE lists")
    sql(path, "CREATE TABLE lists (other INT)")
    assert store.lists() is None
    blob = b"no tensors"
    store.keep_lists(lists)
    with closing(sqlite3.connect(path)) as db:
        values = (store.calibration_id, store.revision, blob)
        db.execute("UPDATE lists SET tensors = ?, sha256 = ?", (blob, schema.digest(*values)))
        db.commit()
    assert store.lists() is None
    with store.writing(), pytest.raises(StoreError, match="being written"):
        Store.open(path).keep_lists(lists)


def test_edits_that_cannot_be_read(store, path):
    for text, words in (
        ("{", "cannot be read"),
        ('{"prompt": 1}', "cannot be read"),
        ('{"prompt":"p","target":"t"}', "holds the id"),
    ):
        sql(path, f"UPDATE records SET edit = '{text}' WHERE id = 2")
        with pytest.raises(StoreError, match=f"edit 'b' {words}"):
            Store.open(path)
    sql(path, "UPDATE revisions SET detail = '{' WHERE revision = 2")
    with pytest.raises(StoreError, match="a revision cannot be read"):
        store.history()
    sql(path, "PRAGMA foreign_keys = OFF", "DELETE FROM revisions")
    with pytest.raises(StoreError, match="it has no revisions"):
        Store.open(path)


def test_every_connection_is_durable(path, store):
    with database.database(path, path) as db:
        values = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "page_size")
        }
    assert values == {
        "journal_mode": "truncate",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "page_size": schema.PAGE_SIZE,
    }


# ------------------------------------------------------------------------------------------------------ size and speed


def test_bytes_per_edit(path):
    """A block of 25,900 bytes, keys of 2,200 and 400 of text cost less than 31,000 bytes of file, edit by edit."""
    store = Store.create(path, MODEL, CONFIG)
    store.calibrate({}, {}, {})
    start = path.stat().st_size
    for i in range(200):
        edit = Edit(f"{i} " + "p" * 180, "t" * 60, metadata={"source": "s" * 30})
        wide = {f"{j}.{side}": torch.rand(2150).half() for j in range(3) for side in "AB"}
        store.put([Record(edit, 2, "answer", {"loss": 0.1, "steps": 30}, wide, {"key": torch.rand(530)})])
    stored = store.edits()[0]
    assert 27_900 < stored.nbytes < 28_600
    assert (path.stat().st_size - start) / 200 < 31_000


def test_opening_takes_few_queries(path, monkeypatch):
    store = Store.create(path, MODEL, CONFIG)
    store.calibrate({}, {}, {})
    store.put([record(f"e{i}") for i in range(1000)])
    store.remove(["e7"])
    queries, connect = [], database.connect

    def traced(path, mode):
        db = connect(path, mode)
        db.set_trace_callback(queries.append)
        return db

    monkeypatch.setattr(database, "connect", traced)
    assert len(Store.open(path).edits()) == 999
    assert len(queries) <= 5, queries
    plan = []
    with database.database(path, path) as db:
        for changes in (schema.STATE_AT, schema.CHANGED_AT):
            plan += db.execute(f"EXPLAIN QUERY PLAN {changes}", (3,)).fetchall()
    assert any("changes_by_edit" in row[3] for row in plan) and "SEARCH changes" in plan[-1][3]


def test_no_torch_without_tensors(store, path):
    """What the commands ls, show, history, remove and rollback need."""
    script = """
import sys
from meloedit.store import Store
store = Store.open(sys.argv[1])
store.edits(), store.get("a"), store.history(), store.diff(1, 3), store.calibration_id
store.set_enabled(["a"], False), store.remove(["b"]), store.rollback(4)
Store.create(sys.argv[1] + "2", {}, {})
assert store.verify() == [] and store.revision == 7
loaded = {"torch", "safetensors", "numpy", "transformers"} & set(sys.modules)
assert not loaded, loaded
"""
    environment = os.environ | {"PYTHONPATH": str(Path(rows.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script, path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_stay_plain_json(store, path):
    """Another program can read a store: JSON and safetensors in SQLite, no pickle."""
    with closing(sqlite3.connect(path)) as db:
        (text, blob) = db.execute("SELECT edit, block FROM records WHERE id = 1").fetchone()
        application = db.execute("PRAGMA application_id").fetchone()[0]
    assert Edit.from_dict(json.loads(text)) == record("a").edit
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    assert header["down.A"]["shape"] == [2, 4]
    assert application.to_bytes(4, "big") == b"MELO"
    assert issubclass(StoreError, MeloEditError)
