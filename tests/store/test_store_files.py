"""The file of a store: creating, copying and opening it, and files that are no store."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.store_cases import (
    CONFIG,
    MODEL,
    attempt,
    child,
    finished,
    one_line,
    posix,
    sql,
    state,
)

from meloedit.errors import StoreError
from meloedit.store import Store, database, schema


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


def test_what_is_not_a_store(tmp_path):
    (tmp_path / "text").write_text("prompt,target\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    sql(tmp_path / "other", "CREATE TABLE t (x)")
    Store.create(tmp_path / "new", MODEL, CONFIG)
    sql(tmp_path / "new", "PRAGMA user_version = 7")
    Store.create(tmp_path / "old", MODEL, CONFIG)
    sql(tmp_path / "old", "PRAGMA user_version = 1")
    Store.create(tmp_path / "zero", MODEL, CONFIG)
    sql(tmp_path / "zero", "PRAGMA user_version = 0")
    for name, words in {
        "none": "no store at none; make one with: meloedit init none --model MODEL",
        "text/none": "no store at text/none; make one with",
        ".": ". is a folder, not a store",
        "text": "text is not a meloedit store (it is no SQLite file",
        "empty": "empty is not a meloedit store (it is empty",
        "other": "other is not a meloedit store (it is empty, or another program's SQLite file)",
        "new": "new has format 7, this meloedit reads format 4: upgrade meloedit",
        "old": "old has format 1, this meloedit reads format 4: it was made by an earlier meloedit that was never "
        "released; make the store again from its edits",
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


def test_every_connection_is_durable(path, store):
    with database.open_database(path, path) as db:
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
