"""Cached tensors, atomic writes and hashes of JSON."""

import hashlib
import logging

import pytest
import torch
from safetensors.torch import load

from meloedit.errors import MeloEditError
from meloedit.files import json_hash, load_tensors, make_folder, save_tensors, write_bytes, write_csv


def test_tensors_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "keys.tensors"
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor([1, 2], dtype=torch.int32)}
    save_tensors(path, tensors)
    read = load_tensors(path)
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
    content = path.read_bytes()  # a checksum, then the bytes of safetensors
    assert content[:32] == hashlib.sha256(content[32:]).digest() and load(content[32:]).keys() == tensors.keys()
    assert [file.name for file in path.parent.iterdir()] == ["keys.tensors"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + b"x" + b[41:], lambda b: b[32:]]
)
def test_damaged_tensors_are_none(tmp_path, damage):
    path = tmp_path / "keys.tensors"
    assert load_tensors(path) is None
    save_tensors(path, {"a": torch.ones(5)})
    path.write_bytes(damage(path.read_bytes()))
    assert load_tensors(path) is None


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        save_tensors(tmp_path / "file" / "keys.tensors", {"a": torch.ones(1)})
    assert "the next run computes it again" in caplog.text and "is a file, not a folder" in caplog.text


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(MeloEditError, match=r"a\.json cannot be written \(No space left on device\)"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_csv_has_a_header_and_only_the_columns(tmp_path):
    write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "y": "a,b", "z": 3}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x,y", '1,"a,b"']


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(MeloEditError, match="a is a file, not a folder"):
        make_folder(tmp_path / "a" / "b")


def test_hashes_do_not_depend_on_order_or_kind_of_sequence():
    assert json_hash({"a": (1, 2), "b": "\ud800"}) == json_hash({"b": "\ud800", "a": [1, 2]})
    whole = json_hash([1], 64)
    assert len(whole) == 64 and json_hash([1]) == whole[:16] == hashlib.sha256(b"[1]").hexdigest()[:16]
