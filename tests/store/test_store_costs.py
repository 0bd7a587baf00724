"""Bytes per edit, queries per opening, and no torch without tensors."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from support.store_cases import (
    CONFIG,
    MODEL,
    record,
)

from meloedit.edit import Edit
from meloedit.store import Record, Store, database, rows


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
    assert len(queries) <= 30, queries
    assert all("tensors FROM" not in query and "block FROM" not in query for query in queries), "blobs stay unread"


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
