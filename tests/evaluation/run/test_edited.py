"""A finished run can be opened again: its methods have their edits, which are not made anew."""

import importlib
import json
import shutil
from pathlib import Path

import eval_runs
import pytest
from eval_runs import evaluated, zsre

from meloedit.errors import MeloEditError
from meloedit.evaluation.run.method_run import MethodRun
from meloedit.methods.weights.ft import FineTuning

files = eval_runs.files
FT = ["--set", "ft.depth=1.0", "--set", "ft.lr=0.05", "--set", "ft.passes=8"]


def silent(step, done, total):
    pass


@pytest.fixture
def ability(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    return importlib.import_module("benchmarks.rivals.ability")


def test_a_finished_runs_method_answers_as_it_did_and_makes_no_edit(files, tmp_path, ability, monkeypatch):
    out = tmp_path / "run"
    evaluated(*zsre(files, out, "--method", "ft", *FT))
    monkeypatch.setattr(FineTuning, "_edit", lambda *_: pytest.fail("an edit was made anew"))
    context = ability.reopened(out, [files["zsre"], files["nq"]], None, silent)
    method = MethodRun(context, "ft").edited()
    try:
        rows = [json.loads(line) for line in (out / "observations" / "ft.jsonl").read_text().splitlines()]
        said = {row["prompt"]: row["answer"] for row in rows if row["set"] == "edits"}
        answers = method.answer(list(said), context.max_tokens)
        assert [answer.text for answer in answers] == list(said.values()) and len(said) == 4
    finally:
        method.close()


def test_edits_that_the_folder_lacks_are_made(files, tmp_path, ability):
    out = tmp_path / "run"
    evaluated(*zsre(files, out, "--method", "none"))
    shutil.rmtree(out / "states" / "none")
    context = ability.reopened(out, [files["zsre"], files["nq"]], None, silent)
    method = MethodRun(context, "none").edited()
    assert len(method.edits) == 4


def test_edits_that_are_made_apart_are_never_together(files, tmp_path, ability):
    out = tmp_path / "run"
    evaluated(*zsre(files, out, "--method", "none", "--protocol", "single"))
    context = ability.reopened(out, [files["zsre"], files["nq"]], None, silent)
    with pytest.raises(MeloEditError, match="made apart from each other"):
        MethodRun(context, "none").edited()


def test_a_folder_without_a_result_is_refused(tmp_path, ability):
    with pytest.raises(MeloEditError, match="holds no result"):
        ability.reopened(tmp_path, [], None, silent)
