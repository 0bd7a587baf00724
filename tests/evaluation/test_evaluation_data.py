"""Data sets of the tasks: what is read of them, and which line is named when it is not usable."""

import gzip
import json

import pytest

from meloedit.errors import EditError
from meloedit.evaluation.tasks.datasets import (
    TOPICS,
    Case,
    Question,
    Sentence,
    hallucinations,
    nq_questions,
    scotus_cases,
    split,
    web_texts,
    zsre_questions,
)

ZSRE = {"src": "Who made it?", "rephrase": "Its maker?", "answers": ["Ann", "Anna"], "alt": "Bob", "pred": "Cy"}
CASE = {"case_id": "1975-001", "text": "We hold that", "issue_area_id": 8, "year": 1975, "is_primary": True}
BIO = {
    "index": 3,
    "concept": "ada moor",
    "gpt3_sentences": ["Ada is a poet.", "She was born in 1901.", "She wrote odes."],
    "annotation": ["accurate", "major_inaccurate", "accurate"],
}
EDIT = {
    "prompt": "This is a Wikipedia passage about ada moor. Ada is a poet.",
    "target_new": "She was born in 1899.",
    "bio_index": 3,
}


def file_of(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_zsre_takes_the_true_answer(tmp_path):
    found = zsre_questions(file_of(tmp_path, ZSRE))
    assert found == [Question("Who made it?", "Ann", ("Its maker?",), ("Ann", "Anna"))]


def test_zsre_takes_the_target_of_the_canonical_form(tmp_path):
    row = {"id": "a", "prompt": "Who?", "target": "Bob", "target_true": "Ann", "rephrases": ["Which one?"], "near": []}
    bare = {"prompt": "What?", "target": "It"}
    found = zsre_questions(file_of(tmp_path, row, bare))
    assert found == [Question("Who?", "Bob", ("Which one?",), ("Bob",)), Question("What?", "It", (), ("It",))]


def test_nq_questions_get_their_question_mark(tmp_path):
    path = file_of(tmp_path, {"question": "who was first", "answer": ["Ann", "Anna"]})
    assert nq_questions(path) == [Question("who was first?", "Ann", (), ("Ann", "Anna"))]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": "some words"}).encode()))
    assert web_texts(path) == ["some words"]


def test_scotus_keeps_primary_rows_of_the_eleven_topics(tmp_path):
    path = file_of(
        tmp_path,
        CASE,
        CASE | {"case_id": "2", "issue_area_id": 12},
        CASE | {"case_id": "3", "issue_area_id": 11},
        CASE | {"case_id": "4", "is_primary": False},
    )
    assert [(case.id, case.topic) for case in scotus_cases(path)] == [
        ("1975-001", "Economic Activity"),
        ("2", "Federal Taxation"),
    ]


def test_labels_are_places_in_the_topics():
    assert [Case("a", "b", topic, 1980).label for topic in TOPICS] == list(range(11))


def test_split_is_by_year_and_stable():
    cases = [
        Case(f"{year}-{k}", "words", TOPICS[0], year) for year in (1972, 1990, 1991, 2009, 2010) for k in range(200)
    ]
    found = split(cases)
    assert {case.year for case in found.train} == {case.year for case in found.held_out} == {1972, 1990}
    assert {case.year for case in found.edits} == {1991, 2009} and {case.year for case in found.later} == {2010}
    assert len(found.train) + len(found.held_out) == 400 and 40 <= len(found.held_out) <= 80
    again = split(reversed(cases))
    assert set(again.held_out) == set(found.held_out)  # neither the order nor the other cases decide
    assert set(split(cases[:50]).held_out) == set(found.held_out) & set(cases[:50])


def test_hallucinations_and_the_accurate_sentences_of_the_same_biographies(tmp_path):
    other = BIO | {"index": 4, "concept": "bo lund"}
    edits, accurate = hallucinations(
        file_of(tmp_path, EDIT, name="edits.jsonl"), file_of(tmp_path, BIO, other, name="bios.jsonl")
    )
    assert edits == [Sentence(EDIT["prompt"], "She was born in 1899.", 3)]
    opening = "This is a Wikipedia passage about ada moor. "
    assert accurate == [
        Sentence(opening, "Ada is a poet.", 3),
        Sentence(opening + "Ada is a poet. She was born in 1901.", "She wrote odes.", 3),
    ]


def test_an_edit_without_its_biography_is_an_error(tmp_path):
    edits, bios = file_of(tmp_path, EDIT | {"bio_index": 9}, name="edits.jsonl"), file_of(tmp_path, BIO, name="b.jsonl")
    with pytest.raises(EditError, match=r"edits\.jsonl, line 1: .*b\.jsonl has no biography 9"):
        hallucinations(edits, bios)


def test_sentences_and_labels_must_be_as_many(tmp_path):
    edits = file_of(tmp_path, EDIT, name="edits.jsonl")
    bios = file_of(tmp_path, BIO | {"annotation": ["accurate"]}, name="b.jsonl")
    with pytest.raises(EditError, match=r"b\.jsonl, line 1: 3 gpt3_sentences and 1 of annotation"):
        hallucinations(edits, bios)


@pytest.mark.parametrize(
    ("read", "good", "bad", "words"),
    [
        (zsre_questions, ZSRE, ZSRE | {"answers": []}, "answers is an empty list"),
        (zsre_questions, ZSRE, ZSRE | {"answers": ["Ann", 3]}, "answers must be a list of non-empty strings"),
        (zsre_questions, ZSRE, {"src": "Who?", "answers": ["Ann"]}, r"no rephrase \(fields found: src, answers\)"),
        (zsre_questions, ZSRE, {"question": "Who?"}, r"no prompt \(fields found: question\)"),
        (zsre_questions, ZSRE, {"prompt": "Who?"}, "no target"),
        (zsre_questions, ZSRE, {"prompt": " ", "target": "Ann"}, "prompt must be a non-empty string, not ' '"),
        (nq_questions, {"question": "who", "answer": ["Ann"]}, {"question": "who"}, "no answer"),
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
