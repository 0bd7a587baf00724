"""SCOTUS cases and GPT-3's biographies: what is read, and how cases are split."""

import json

import pytest

from meloedit.errors import EditError
from meloedit.evaluation.tasks.datasets import (
    TOPICS,
    Case,
    Sentence,
    hallucinations,
    scotus_cases,
    split,
)

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
