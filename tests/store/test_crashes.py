"""Killed processes, full disks and failed writes leave whole stores."""

import random

import pytest
from support.store_cases import CONFIG, MODEL, killed_midway, one_line, posix, record, state

from meloedit.errors import StoreError
from meloedit.store import Store, database, making


@posix
def test_a_killed_writer_leaves_whole_edits(path):
    """Big transactions, which write into the file before they are committed, cut off at random moments."""
    Store.create(path, MODEL, CONFIG).calibrate({}, {}, {})
    chance, batch, found = random.Random(7), 30, 0

    def work(_):
        store = Store.open(path)
        first = store.revision
        store.put([record(f"{first}-{i}", seed=i, size=6000) for i in range(batch)])

    for _ in range(10):
        with killed_midway(work, chance):
            store = Store.open(path)
            assert store.verify() == []
            assert store.revision == len(store.history())
            ids = {f"{first}-{i}" for first in range(2, store.revision) for i in range(batch)}
            assert {s.edit.id for s in store.edits()} == ids
            assert found < len(ids) == len(store.tensors())
            found = len(ids)
    store.put([record("after")])
    assert Store.open(path).verify() == []


@posix
def test_a_killed_maker_leaves_no_half_store(tmp_path):
    chance = random.Random(3)

    for kill in range(6):
        with killed_midway(lambda i, kill=kill: Store.create(tmp_path / f"{kill}-{i}.melo", MODEL, CONFIG), chance):
            made = list(tmp_path.glob(f"{kill}-*.melo"))
            assert made
            for path in made:
                assert Store.open(path).revision == 1


def test_a_failed_make_leaves_nothing(path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    for part in ("_publish", "connect"):
        with monkeypatch.context() as patch:
            patch.setattr(making, part, stop)
            with pytest.raises(KeyboardInterrupt):
                Store.create(path, MODEL, CONFIG)
        assert {p.name for p in path.parent.iterdir()} <= {"facts.melo.lock"}
    with pytest.raises(StoreError, match="config must be JSON"):
        Store.create(path, MODEL, {"x": object()})
    assert {p.name for p in path.parent.iterdir()} <= {"facts.melo.lock"}
    Store.create(path, MODEL, CONFIG)


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
