"""Finished runs: which are read, which are computed again, what an interrupt leaves."""

import json
from pathlib import Path

import ablation_commands
from ablation_commands import COMMON, FACTS, FakeEditor, found, run, write

from meloedit.evaluation.ablations.runs import Runs
from meloedit.files import load_tensors

place = ablation_commands.place


def test_a_second_call_reads_what_is_kept(place):
    first = found("radius", "--radii", "1,2", "--wordings", 2)
    assert len(FakeEditor.opened) == 1  # for the keys
    stamps = {path: path.stat().st_mtime_ns for path in Path("out/runs").iterdir()}
    assert len(stamps) == 3
    assert found("radius", "--radii", "1,2", "--wordings", 2) == first and len(FakeEditor.opened) == 1
    assert {path: path.stat().st_mtime_ns for path in Path("out/runs").iterdir()} == stamps
    found("radius", "--radii", "1,2,3", "--wordings", 2)  # one more run, on the same keys
    assert len(FakeEditor.opened) == 1 and len(list(Path("out/runs").iterdir())) == 4


def test_other_settings_edits_or_models_are_other_runs(place, make_model, tokenizer, monkeypatch):
    found("rank", "--ranks", "2")
    assert len(FakeEditor.opened) == 1
    found("rank", "--ranks", "2", "--set", "steps=51")
    found("rank", "--ranks", "2", "--count", 23)
    write(Path("facts.jsonl"), *FACTS, "")
    found("rank", "--ranks", "2")
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (make_model("llama").half(), tokenizer))
    found("rank", "--ranks", "2")
    assert len(FakeEditor.opened) == len(list(Path("out/runs").iterdir())) == 5


def test_a_file_of_other_settings_or_a_damaged_one_is_not_taken(place):
    first = found("rank", "--ranks", "2")
    (path,) = Path("out/runs").iterdir()
    held = json.loads(path.read_text())
    assert held["settings"]["config"]["rank"] == 2 and held["settings"]["facts_sha256"] == first["facts_sha256"]
    held["settings"]["config"]["rank"] = 3
    for wrong in (json.dumps(held), "{", "[]", '{"settings": {}}', ""):
        path.write_text(wrong)
        before = len(FakeEditor.opened)
        assert found("rank", "--ranks", "2") == first and len(FakeEditor.opened) == before + 1, wrong
    (keys,) = (made for _ in [found("keys")] for made in Path("out/runs").glob("keys-*"))
    keys.write_bytes(keys.read_bytes()[:100])
    before = len(FakeEditor.opened)
    found("keys")
    assert len(FakeEditor.opened) == before + 1 and len(load_tensors(keys)["keys"]) == 96


def test_runs_need_no_exact_types(tmp_path):
    runs = Runs(tmp_path, {"model": "m"})
    first = runs.run("x", {"a": (1, 2)}, lambda: {"b": (3, 4)})
    assert first == runs.run("x", {"a": [1, 2]}, dict) == {"b": [3, 4]} and (runs.computed, runs.read) == (1, 1)
    assert Runs(tmp_path, {"model": "n"}).run("x", {"a": [1, 2]}, lambda: {"c": 1}) == {"c": 1}


def test_interrupting_keeps_finished_runs(place, monkeypatch):
    monkeypatch.setattr(FakeEditor, "stop_at", 2)
    result = run("rank", *COMMON, "--ranks", "1,2,4")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith("interrupted: 2 finished runs kept in out; run the same command again for the rest\n")
    monkeypatch.setattr(FakeEditor, "stop_at", None)
    assert [made["rank"] for made in found("rank", "--ranks", "1,2,4")["runs"]] == [1, 2, 4]
    assert [config.rank for config in FakeEditor.opened] == [1, 2, 4]
    assert not list(Path("out").rglob("*.part"))
