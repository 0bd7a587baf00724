"""One writer at a time: objects, threads, processes and other programs on one file."""

import os
import select
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
from support.store_cases import CONFIG, MODEL, attempt, child, finished, posix, record, sql, state

from meloedit.errors import StoreError
from meloedit.store import Store, database
from meloedit.store.state import State


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
        sql(
            path,
            "INSERT INTO revisions SELECT 5, time, action, detail, calibration, added, sha256 FROM revisions LIMIT 1",
        )
        store.put([record("d")])


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
    """Reads and writes overlap; between two writes at least one read ends."""
    ends, stop = os.pipe(), os.pipe()

    def work():
        while not select.select([stop[0]], [], [], 0)[0]:
            reader = Store.open(path)
            assert len(reader.tensors()) == len(reader.edits()) == reader.revision - 1
            os.write(ends[1], b"x")

    with child(work) as pid:
        os.close(ends[1])
        for number in range(40):
            store.put([record(f"e{number}", seed=number, size=300)])
            assert os.read(ends[0], 1), "the reader failed"
        os.write(stop[1], b"x")
        assert finished(pid) == 0
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


@posix
def test_a_fork_while_the_lock_is_held_has_no_lock(store, path):
    """The child of a process that writes may not write, and does not wait for a thread that it does not have."""
    held, forked = threading.Event(), threading.Event()

    def hold():
        with store.writing():
            held.set()
            forked.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)

    def work():
        attempt(lambda: store.remove(["a"]), "is being written by another process")
        attempt(lambda: Store.open(path).remove(["a"]), "is being written by another process")

    with store_lock_released_after(forked, thread), child(work) as pid:
        assert finished(pid) == 0
    assert store.remove(["b"]) == 5


@contextmanager
def store_lock_released_after(event, thread):
    try:
        yield
    finally:
        event.set()
        thread.join()


@posix
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(store, path):
    ready, go = os.pipe(), os.pipe()

    def parent():
        with store.writing():
            if os.fork() == 0:
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                os._exit(0)
            os.read(ready[0], 1)
            os._exit(0)  # killed, as it were: nothing is released

    with child(parent) as pid:
        assert finished(pid) == 0
        assert store.remove(["a"]) == 5, "the lock went with the process that took it"
        os.write(go[1], b"x")


def test_a_reader_follows_another_process_by_one_call(store, path, tmp_path):
    reader = Store.open(path)
    assert reader.refresh() is False
    store.put([record("d", seed=4)])
    store.remove(["a"])
    assert list(state(reader)) == ["a", "b", "c"]
    assert reader.refresh() is True and state(reader) == state(store) and reader.revision == 6
    assert reader.refresh() is False and reader.remove(["d"]) == 7
    store.refresh()
    store.copy(tmp_path / "same.melo")
    os.replace(tmp_path / "same.melo", path)
    assert store.refresh() is False and store.remove(["b"]) == 8, "the same store in another file"


def test_a_file_that_takes_the_place_of_another_is_never_read_for_it(store, path, tmp_path):
    other = Store.create(tmp_path / "other.melo", MODEL, CONFIG)
    other.calibrate({}, {}, {})
    other.put([record("a", "Rome", seed=8)])
    other.put([record("y")])  # at the same revision as the store
    os.replace(tmp_path / "other.melo", path)
    for call in (store.tensors, store.history, lambda: store.block_stacks([1]), store.calibration, store.refresh):
        with pytest.raises(StoreError, match="was overwritten since it was opened, by another store: open it again"):
            call()
    assert list(state(store)) == ["a", "b", "c"], "what is in memory stays"


def test_what_one_thread_loads_never_undoes_what_another_one_stored(store, path, monkeypatch):
    shared, load = Store.open(path), State.load

    def follow_and_change():
        shared.refresh()
        shared.remove(["a"])

    other = threading.Thread(target=follow_and_change)

    def load_and_be_late(db, name):
        monkeypatch.undo()
        loaded = load(db, name)
        other.start()
        other.join(0.3)  # it waits for this thread now, and would be done otherwise
        return loaded

    store.remove(["c"])
    monkeypatch.setattr(State, "load", load_and_be_late)
    assert shared.refresh() is True
    other.join()
    assert shared.revision == 6 and list(state(shared)) == ["b"]
