"""Tensors and texts come back as they were stored, and other programs can read them."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from support.store_cases import (
    block,
    keys,
    record,
    same,
    sql,
)

from meloedit.edit import Edit
from meloedit.errors import MeloEditError, StoreError
from meloedit.store import Record, Store, rows


def test_stacks_are_the_tensors_of_each(store):
    """Blocks of one layout come as one tensor; another rank, and none at all, come beside them."""
    none = {"key": torch.zeros(0, 3)}
    store.put([record("d", seed=4, size=6), record("e", seed=5), replace(record("f", seed=6), keys=none)])
    numbers = [store.get(edit_id).record for edit_id in "facde"]
    blocks, keys_ = store.block_stacks(numbers), store.key_stacks(numbers)
    assert sorted(len(numbers) for numbers, _ in blocks) == [1, 4]
    for index, stacks in enumerate((blocks, keys_)):
        found = {
            number: {name: tensor[i] for name, tensor in tensors.items()}
            for numbers, tensors in stacks
            for i, number in enumerate(numbers)
        }
        for edit_id in "acdef":
            assert same(found[store.get(edit_id).record], store.tensors([edit_id])[edit_id][index])


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
        lambda: store.put([record("d"), Record(Edit("p", "t"), 2, "all", {1: {2}}, block(1), keys(1))], removed=["a"]),
        lambda: store.calibrate({}, {"x": {1}}, {}),
    ):
        with pytest.raises(StoreError):
            broken()
    with pytest.raises(StoreError, match="report must be JSON"):
        store.put([Record(Edit("p", "t"), 2, "all", {"x": object()}, block(1), keys(1))])
    assert store.revision == before == Store.open(path).revision and store.verify() == []


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


def test_stacks_read_records_that_are_not_live_and_only_their_own_table(store, path):
    store.put([record("a", "Rome", seed=7)], removed=["c"])
    ((numbers, tensors),) = store.block_stacks([3, 1])
    assert numbers == [3, 1] and torch.equal(tensors["down.A"][0], block(3)["down.A"])
    assert store.block_stacks([]) == store.key_stacks([]) == []
    sql(path, "UPDATE keys SET tensors = zeroblob(9) WHERE record = 2", "UPDATE records SET block = x'00' WHERE id = 4")
    for call in (lambda: store.key_stacks([1, 2]), lambda: store.records([1, 2])):
        with pytest.raises(StoreError, match="the keys of edit 'b' do not match their checksum"):
            call()
    for call in (lambda: store.block_stacks([1, 4]), lambda: store.records([1, 4])):
        with pytest.raises(StoreError, match="edit 'a' does not match its checksum"):
            call()
    assert store.block_stacks([2])[0][0] == [2] and store.key_stacks([4])[0][0] == [4], "each reads its table alone"
    for read in (store.block_stacks, store.key_stacks, store.records):
        with pytest.raises(StoreError, match="damaged .record 99 is gone"):
            read([1, 99])
    sql(path, "DELETE FROM keys WHERE record = 3")
    with pytest.raises(StoreError, match="the keys of edit 'c' do not match their checksum"):
        store.key_stacks([3])


def test_many_records_are_read_in_several_queries(store, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 2)
    store.put([record("d", seed=4), record("e", seed=5)])
    assert list(store.records([5, 1, 4, 2, 3])) == [5, 1, 4, 2, 3]
    for read in (store.block_stacks, store.key_stacks):
        ((numbers, _),) = read([5, 1, 4, 2, 3])
        assert numbers == [5, 1, 4, 2, 3]
