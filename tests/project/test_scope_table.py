"""The one table of the scope: its rows and settings, its cells, and a small run of it."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from meloedit.errors import MeloEditError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scope_table(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.routing.scope_table")


def test_rows_are_methods_and_named_settings(scope_table):
    given = ["rag:min_similarity=0.6", "wide:melo.min_similarity=0.4,melo.false_activation=0.02", "wide:melo.rank=2"]
    rows = scope_table.read_rows(["melo", "rag"], given)
    assert [(row.name, row.method, row.settings) for row in rows] == [
        ("melo", "melo", {}),
        ("rag", "rag", {"min_similarity": 0.6}),
        ("wide", "melo", {"min_similarity": 0.4, "false_activation": 0.02, "rank": 2}),
    ]
    assert rows[2].slug == "wide" and scope_table.Row("Melo, no judge!", "melo").slug == "melo-no-judge"


@pytest.mark.parametrize(
    ("methods", "given", "words"),
    [
        (["melo"], ["rag"], "give NAME:SETTING=VALUE"),
        (["melo"], ["wide:min_similarity"], "give NAME:SETTING=VALUE"),
        (["melo"], ["wide:min_similarity=1"], "no routes of method 'wide'"),
        (["lora"], [], "no routes of method 'lora'"),
        (["melo"], ["melo:rag.top=1"], "the row 'melo' is of melo, not of rag"),
        (["melo"], ["melo:colour=1"], "method melo: "),
        (["melo"], ["Melo!:melo.rank=2"], "two rows have like names"),
    ],
)
def test_wrong_settings_are_one_line(scope_table, methods, given, words):
    with pytest.raises(MeloEditError, match=words) as raised:
        scope_table.read_rows(methods, given)
    assert "\n" not in str(raised.value)


def test_the_table_has_a_row_for_each_and_a_dash_for_what_was_not_measured(scope_table):
    rows = [scope_table.Row("melo", "melo"), scope_table.Row("rag", "rag")]
    melo = {"auc": {"value": 0.9124}, "auc_judge": {"value": 0.95}, "hits": {"value": 1.0}}
    figures = {"pairs": {"melo": melo, "rag": {"auc": {"value": 0.5}}}}
    assert scope_table.table(rows, figures).splitlines() == [
        "| | pairs: AUC | pairs: AUC of the judge | pairs: hits | pairs: traps |",
        "|---|---|---|---|---|",
        "| melo | 0.912 | 0.950 | 1.000 | – |",
        "| rag | 0.500 | – | – | – |",
    ]


def test_a_run_writes_table_and_figures(scope_table, tmp_path, make_model, tokenizer, monkeypatch, capsys):
    make_model("llama").save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    pairs = [{"a": f"Where was {name} born?", "b": f"{name}'s age?", "same": name == "Ada"} for name in ("Ada", "Bo")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    options = ["--model", tmp_path / "llama", "--pairs", tmp_path / "pairs.jsonl", "--methods", "melo-paper"]
    options += ["--set", "near:melo-paper.radius=0.5", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["scope_table", *map(str, options)])
    scope_table.main()
    written = json.loads((tmp_path / "out" / "scope_table.json").read_text())
    assert list(written["figures"]["pairs"]) == ["melo-paper", "near"]
    assert written["provenance"]["rows"]["near"] == {"method": "melo-paper", "settings": {"radius": 0.5}}
    assert (tmp_path / "out" / "scope_table.md").read_text().splitlines()[2].startswith("| melo-paper | ")
    assert (tmp_path / "out" / "pairs" / "near" / "result.json").is_file()
    monkeypatch.setattr(sys, "argv", ["scope_table", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        scope_table.main()
    assert stopped.value.code == 1 and "error: no set is given" in capsys.readouterr().err
