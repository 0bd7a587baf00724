"""The cache of the scope's nearest keys, which lies beside the history."""

import sqlite3
from contextlib import closing

import pytest
import torch
from support.store_cases import keys, same, sql

from meloedit.errors import StoreError
from meloedit.store import Store, schema


@pytest.fixture
def cache():
    return {"near": torch.rand(5, 4), "owner": torch.arange(20, dtype=torch.int32).view(5, 4)}


def test_the_cache_lies_beside_the_history(store, path, cache):
    assert store.scope_cache() is None, "none was written"
    revision, history = store.revision, store.history()
    for enabled in (frozenset({1, 3}), frozenset({3})):
        store.keep_scope_cache(cache)
        again = Store.open(path)
        assert again.scope_cache()[1] == enabled and same(again.scope_cache()[0], cache)
        assert (again.revision, again.verify()) == (store.revision, [])
        if len(enabled) == 2:
            assert (revision, history) == (store.revision, store.history())
            store.remove(["a"])  # a cache of an earlier revision says which edits it is of
            assert store.scope_cache()[1] == enabled
    store.calibrate({"mean": torch.arange(3.0)}, {}, {name: keys(9) for name in ("b", "c")})
    assert store.scope_cache() is None, "it is of another calibration"


def test_a_damaged_cache_is_ignored_and_written_again(store, path, cache):
    store.keep_scope_cache(cache)
    for damage in ("SET revision = 3", "SET calibration = 7", "SET tensors = 'text'"):
        store.keep_scope_cache(cache)
        assert store.scope_cache() is not None
        sql(path, f"UPDATE scope_cache {damage}")
        assert store.scope_cache() is None and store.verify() == [], "what can be computed is no loss"
    store.keep_scope_cache(cache)
    sql(path, "DELETE FROM scope_cache")
    assert store.scope_cache() is None and store.verify() == []
    store.keep_scope_cache(cache)
    assert same(store.scope_cache()[0], cache)


def test_a_cache_whose_bytes_are_no_tensors(store, path, cache):
    store.keep_scope_cache(cache)
    blob = b"no tensors"
    with closing(sqlite3.connect(path)) as db:
        values = (store.calibration_id, store.revision, blob)
        db.execute("UPDATE scope_cache SET tensors = ?, sha256 = ?", (blob, schema.checksum(*values)))
        db.commit()
    assert store.scope_cache() is None


def test_the_cache_is_written_by_one_writer(store, path, cache):
    with store.writing(), pytest.raises(StoreError, match="being written"):
        Store.open(path).keep_scope_cache(cache)


def test_no_cache_before_the_first_calibration(path, cache):
    store = Store.create(path, {}, {})
    store.keep_scope_cache(cache)
    assert store.scope_cache() is None
