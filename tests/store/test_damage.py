"""Damaged files: every wrong byte is an error, or verify() reports it."""

import json
import random
from pathlib import Path

import pytest
import torch
from support.forging import forge
from support.store_cases import (
    keys,
    one_line,
    record,
    sql,
)

from meloedit.errors import StoreError
from meloedit.store import Store, schema
from meloedit.store.guard import integrity


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
        def execute(self, query):
            return iter([(5, "x"), (3, "y"), (5, "x")])

    assert list(integrity._all_rows(OutOfOrder(), "a", "t")) == [("x",)], "and not forever"


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
    assert list(store.tensors(["a"])) == ["a"], "what is not damaged stays usable while the store is open"
    with pytest.raises(StoreError, match="calibration 1 does not match its checksum"):
        Store.open(path)


DAMAGE = {
    "UPDATE changes SET enabled = 1 WHERE revision = 4": "revision 4 does not match",
    "UPDATE changes SET record = 2 WHERE revision = 3 AND edit_id = 'a'": "the record of another edit",
    "UPDATE revisions SET time = 'yesterday' WHERE revision = 2": "revision 2 does not match",
    "UPDATE records SET edit = REPLACE(edit, 'Paris', 'Pisa') WHERE id = 1": "edit 'a' does not match",
    "UPDATE records SET rank = 3 WHERE id = 1": "edit 'a' does not match",
    "UPDATE records SET reach = 'all' WHERE id = 1": "edit 'a' does not match",
    "UPDATE records SET report = '{}' WHERE id = 1": "edit 'a' does not match",
    "DELETE FROM revisions WHERE revision = 2": "revision 2 is missing",
    "DELETE FROM revisions WHERE revision = 4": "revision 4, the newest one is 3",
    "DELETE FROM changes WHERE revision = 4": "revision 4 does not match",
    "DELETE FROM records WHERE id = 2": "refers to something missing in records",
    "DELETE FROM keys WHERE record = 2": "edit 'b' has no keys",
    "INSERT INTO keys SELECT 1, 7, 3, sha256, tensors FROM keys WHERE record = 2": "revision 3 added are missing",
    "UPDATE keys SET sha256 = zeroblob(32) WHERE record = 2": "the keys of record 2 under calibration 1",
    "UPDATE meta SET value = '{}'": "its config does not match",
    "DELETE FROM head": "it does not say which revision is the newest",
    "UPDATE head SET revision = 3": "its head names revision 3, the newest one is 4",
    "UPDATE head SET sha256 = zeroblob(32)": "newest revision is not the one that its head names",
    "UPDATE calibrations SET created = 'x'": "calibration 1 does not match",
    "DELETE FROM calibrations": "rows that revision 2 added are missing",
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_opening_refuses_and_verify_names_whatever_was_changed(store, path, statement):
    assert store.verify() == []
    sql(path, "PRAGMA foreign_keys = OFF", statement)
    assert any(DAMAGE[statement] in problem for problem in store.verify()), store.verify()
    with pytest.raises(StoreError, match="is damaged") as error:
        Store.open(path)
    one_line(error)


def test_the_chain_covers_what_has_right_checksums_of_its_own(store, path, tmp_path):
    """A row of another store, or of an earlier time, does not pass for this one's."""
    other = tmp_path / "other.melo"
    store.copy(other)
    store.remove(["a"])
    past = other.read_bytes()
    for table in ("revisions", "changes", "head"):
        other.write_bytes(path.read_bytes())
        (tmp_path / "past.melo").write_bytes(past)
        sql(
            other,
            f"ATTACH '{tmp_path / 'past.melo'}' AS past",
            f"DELETE FROM {table}",
            f"INSERT INTO {table} SELECT * FROM past.{table}",
        )
        with pytest.raises(StoreError, match="is damaged"):
            Store.open(other)
    other.write_bytes(past)
    assert Store.open(other).revision == 4, "an old copy is a store like any other"


def test_edits_that_cannot_be_read(store, path):
    for text, words in (
        ("{", "cannot be read"),
        ('{"prompt": 1}', "cannot be read"),
        ('{"prompt":"p","target":"t"}', "holds the id"),
        ("[1]", "it is no JSON object"),
    ):
        forge(path, f"UPDATE records SET edit = '{text}' WHERE id = 2")
        with pytest.raises(StoreError, match=f"edit 'b' .*{words}"):
            Store.open(path)
        assert any("edit 'b'" in line for line in store.verify())
    sql(path, "PRAGMA foreign_keys = OFF", "DELETE FROM revisions")
    with pytest.raises(StoreError, match="revision 1 is missing"):
        Store.open(path)


def test_a_detail_that_cannot_be_read(store, path):
    for text, words in (("{", "cannot be read"), ("7", "no JSON object")):
        forge(path, f"UPDATE revisions SET detail = '{text}' WHERE revision = 2")
        with pytest.raises(StoreError, match=f"the detail of revision 2 .*{words}"):
            Store.open(path).history()
    forge(path, "UPDATE revisions SET detail = '{\"to\": 9}', action = 'rollback' WHERE revision = 2")
    with pytest.raises(StoreError, match="revision 2 rolls back to no revision"):
        Store.open(path).history()


def test_metadata_that_is_too_deep(store, path):
    deep = json.dumps(record("a").edit.to_dict())[:-1] + ', "metadata": ' + "[" * 50_000 + "]" * 50_000 + "}"
    forge(path, f"UPDATE records SET edit = '{deep}' WHERE id = 1")
    with pytest.raises(StoreError, match="edit 'a' cannot be read"):
        Store.open(path)


def test_a_record_that_is_gone_is_damage_on_opening(full, path):
    sql(path, "DELETE FROM records WHERE id = (SELECT MAX(record) FROM changes)")
    with pytest.raises(StoreError, match=r"damaged.*rows that revision 8 added are missing"):
        Store.open(path)
