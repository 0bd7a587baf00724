"""Table 2 in one command: its settings, its training edits, what it asks for, and what it shows."""

import argparse
import importlib
import json
import sys
import tomllib
from pathlib import Path

import pytest

from meloedit.errors import MeloEditError
from meloedit.methods import method_class

ROOT = Path(__file__).parents[2]
OPTIONS = "scotus classifier zsre zsre_train nq t5 hallucination biographies web".split()


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return {
        name.rpartition(".")[2]: importlib.import_module(f"benchmarks.{name}")
        for name in ("paper.table2", "paper.table2_shown", "shared.lessons", "shared.published")
    }


def given(**options):
    return argparse.Namespace(**dict.fromkeys(OPTIONS) | options)


def rows(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def figures(**values):
    return {name: {"value": value, "ci": [value, value], "n": 4} for name, value in values.items()}


def test_every_setting_is_one_of_its_method_and_the_papers_methods_are_all_there(modules):
    settings = tomllib.loads(modules["table2"].SETTINGS.read_text())
    for task, methods in settings.items():
        assert set(modules["published"].TABLE[task]) | {"melo"} == set(methods)
        for name, values in methods.items():
            method_class(name).read_settings(values)


def test_figures_have_a_column_each(modules):
    published = modules["published"]
    for task, methods in published.TABLE.items():
        (count,) = {len(row) for row in methods.values()}
        assert count == len(published.COLUMNS[task]) - (task == "scotus")  # no generality there
    assert published.reported("scotus", "grace", 1) == 0.82 and published.reported("scotus", "grace", 2) is None
    assert published.reported("zsre", "rome", 0) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no task has its files"),
        ({"scotus": "a"}, "task scotus also needs --classifier"),
        ({"zsre": "a", "nq": "b"}, "task zsre also needs --zsre-train and --t5"),
    ],
)
def test_missing_files_are_named(modules, options, words):
    with pytest.raises(MeloEditError, match=words):
        modules["table2"].tasks_of(given(**options))


def test_a_method_without_settings_is_named(modules, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["table2", "--methods", "grace,romeo", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        modules["table2"].main()
    assert stopped.value.code == 1 and "no settings for 'romeo'; there are: cmr, grace" in capsys.readouterr().err


def test_a_wrong_option_is_one_line_and_exit_code_1(modules, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["table2", "--scotus", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as stopped:
        modules["table2"].main()
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 1 and said == "task scotus also needs --classifier"


def test_biographies_with_a_scored_edit_teach_nothing(modules, tmp_path):
    edits = rows(
        tmp_path / "edits.jsonl",
        *({"prompt": f"About {i}.", "target_new": f"Fact {i}.", "bio_index": i} for i in (0, 1, 1)),
    )
    lives = rows(
        tmp_path / "lives.jsonl",
        *(
            {"index": i, "concept": f"P{i}", "gpt3_sentences": ["He lived."], "annotation": ["accurate"]}
            for i in (0, 1)
        ),
    )
    lessons = modules["lessons"]
    found = lessons.of_hallucination(edits, lives, ["0"])
    assert [row["target"] for row in found] == ["Fact 1."] * 2
    assert found[0]["quiet"] == ["This is a Wikipedia passage about P1. "]
    path = lessons.write_lessons(found, tmp_path / "out" / "lessons.jsonl")
    assert len(path.read_text().splitlines()) == 1  # both ask the same
    with pytest.raises(MeloEditError, match="no training edit is left"):
        lessons.write_lessons(lessons.of_hallucination(edits, lives, ["0", "1"]), tmp_path / "none.jsonl")


def test_questions_are_learned_toward_their_true_answers_beside_one_of_nq(modules, tmp_path):
    record = {"src": "Who made it?", "alt": "B", "answers": ["A"], "rephrase": "By whom was it made?"}
    path = rows(tmp_path / "mend.jsonl", record | {"loc": "nq question: who is it"})
    assert modules["lessons"].of_zsre(path) == [
        {"prompt": "Who made it?", "target": "A", "variants": ["By whom was it made?"], "quiet": ["who is it?"]}
    ]


def test_ours_and_the_papers_figures_stand_side_by_side(modules):
    methods = {
        "none": figures(accuracy_upstream=0.6, accuracy_edits=0.0),
        "grace": figures(accuracy_upstream=0.5, accuracy_edits=0.9, edits_per_minute=12.0, parameters_per_edit=768),
        "melo": figures(accuracy_upstream=0.6, accuracy_edits=1.0, edits_per_minute=46.0, parameters_per_edit=2000),
    }
    tables = {"scotus": {"model": "m", "edits": 50, "methods": methods}}
    text = modules["table2_shown"].markdown(tables)
    (grace,) = [line for line in text.splitlines() if line.startswith("| grace | 0.5")]
    assert grace == "| grace | 0.500 [0.500, 0.500] | 0.81 | 0.900 [0.900, 0.900] | 0.82 |  |"
    assert "| melo (ours) | **0.600 [0.600, 0.600]** |  | **1.000 [1.000, 1.000]** |  |  |" in text
    assert "| grace | 0.768 M | 12 |" in text and "| unedited |" in text
    assert modules["table2_shown"].draw(tables).startswith(b"\x89PNG")


def test_tasks_of_files_at_hand(modules, tmp_path):
    local = importlib.import_module("benchmarks.shared.local_tasks")
    web = rows(tmp_path / "web.jsonl", {"text": "word " * 60 + "Lima. More"}, {"text": "word " * 60 + "1999 more"})
    wiki = tmp_path / "wiki.txt"
    wiki.write_text(" = Title = \n" + "long " * 60 + "\nshort\n")
    nq = rows(tmp_path / "nq.jsonl", *({"question": f"q{i}", "answer": [f"a{i}"]} for i in range(6)))
    names = local.write_tasks(tmp_path / "tasks", web, wiki, nq, 4)
    read = {name: [json.loads(line) for line in (tmp_path / "tasks" / f"{name}.jsonl").open()] for name in names}
    assert [row["word"] for row in read["last_word"]] == ["Lima"]
    assert len(read["wiki"]) == 1 and len(read["nq"]) == 4
    for i, row in enumerate(read["nq"]):
        assert row["choices"][row["answer"]] == f"a{i}" and len(set(row["choices"])) == 4
    from meloedit.evaluation.harness import find_tasks

    assert sorted(find_tasks(names, tmp_path / "tasks").all_tasks) == sorted(names)


def test_settings_that_cannot_be_read_are_named(modules, tmp_path):
    read = modules["table2"].read_settings
    with pytest.raises(MeloEditError, match="none.toml"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[scotus")
    with pytest.raises(MeloEditError, match=r"bad\.toml: "):
        read(tmp_path / "bad.toml")
    (tmp_path / "few.toml").write_text("[scotus.grace]")
    with pytest.raises(MeloEditError, match=r"no settings for task zsre: give a table \[zsre\.METHOD\]"):
        read(tmp_path / "few.toml")
