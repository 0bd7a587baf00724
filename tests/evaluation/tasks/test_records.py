"""Records: which line and field an error names, and files that cannot be read."""

import gzip
import hashlib
import json

import pytest

from meloedit.errors import EditError
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.datasets import scotus_cases
from meloedit.evaluation.tasks.far import read_nq
from meloedit.evaluation.tasks.questions import read_zsre
from meloedit.evaluation.tasks.records import Record, read_records
from meloedit.files import file_sha256

ZSRE = {"src": "Who made it?", "rephrase": "Its maker?", "answers": ["Ann", "Anna"], "alt": "Bob", "pred": "Cy"}
CANONICAL = {"prompt": "What?", "target": "It"}
NQ = {"question": "who", "answer": ["Ann"]}
CASE = {"case_id": "1975-001", "text": "We hold that", "issue_area_id": 8, "year": 1975, "is_primary": True}


def file_of(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def zsre(path):
    return read_zsre([open_data_file(str(path), "zsre")], paper=True).drafts


def nq(path):
    return read_nq(open_data_file(str(path), "zsre"))


def web_texts(path):
    return [record.text("text") for record in read_records(path)]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": "some words"}).encode()))
    assert web_texts(path) == ["some words"]


def test_an_inner_record_names_its_field():
    record = Record("rows.jsonl, line 3", {"target": {"str": ""}, "list": []})
    assert "target" in record and "str" not in record and record.get("list") == []
    with pytest.raises(EditError, match="^rows.jsonl, line 3: target: str must be a non-empty string, not ''$"):
        record.inner("target").text("str")
    with pytest.raises(EditError, match="^rows.jsonl, line 3: list: expected an object, not list$"):
        record.inner("list")


@pytest.mark.parametrize(
    ("read", "good", "bad", "words"),
    [
        (zsre, ZSRE, ZSRE | {"answers": []}, "answers is an empty list"),
        (zsre, ZSRE, ZSRE | {"answers": ["Ann", 3]}, "answers must be a list of non-empty strings"),
        (zsre, ZSRE, {"answers": ["Ann"]}, r"no src \(fields found: answers\)"),
        (zsre, ZSRE, {"question": "Who?"}, r"no answers \(fields found: question\)"),
        (zsre, CANONICAL, {"prompt": "Who?"}, "no target"),
        (zsre, CANONICAL, {"target": "Ann"}, r"no prompt \(fields found: target\)"),
        (zsre, CANONICAL, CANONICAL | {"prompt": " "}, "prompt must be a non-empty string, not ' '"),
        (nq, NQ, {"question": "who"}, "no answer"),
        (scotus_cases, CASE, CASE | {"issue_area_id": "8"}, "issue_area_id must be a whole number, not '8'"),
        (scotus_cases, CASE, CASE | {"text": None}, "no text"),
        (web_texts, {"text": "words"}, ["words"], "expected an object, not list"),
    ],
)
def test_errors_name_the_line_and_the_field(tmp_path, read, good, bad, words):
    path = file_of(tmp_path, good, bad)
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: {words}") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(EditError, match="cannot be read"):
        web_texts(tmp_path / "none.jsonl")
    with pytest.raises(EditError, match="no rows in it"):
        web_texts(file_of(tmp_path))
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(EditError, match="not a readable gzip file"):
        web_texts(tmp_path / "bad.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(EditError, match="not UTF-8"):
        web_texts(tmp_path / "latin.jsonl")
    (tmp_path / "text.jsonl").write_text("words\n")
    with pytest.raises(EditError, match=r"text\.jsonl, line 1: not JSON"):
        web_texts(tmp_path / "text.jsonl")


@pytest.mark.parametrize("task", ["zsre", "helpdesk"])
def test_plain_text_that_cannot_be_read(tmp_path, task):
    (tmp_path / "latin.txt").write_bytes(b"One line with six words in.\ncaf\xe9\n")
    with pytest.raises(EditError, match=r"latin\.txt, line 2: not UTF-8 text"):
        open_data_file(str(tmp_path / "latin.txt"), task)
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"One line with six words in.\n" * 9)[:-9])
    with pytest.raises(EditError, match=r"cut\.txt\.gz: not a readable gzip file"):
        open_data_file(str(tmp_path / "cut.txt.gz"), task)


def test_the_hash_is_of_the_bytes_and_errors_have_the_given_name(tmp_path):
    path = file_of(tmp_path, CANONICAL)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(EditError, match=r"^hf://datasets/a/b/c: cannot be read \("):
        file_sha256(tmp_path / "none", "hf://datasets/a/b/c")
