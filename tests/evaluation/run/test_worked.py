"""`meloedit eval` with workers: the scores are those of one process, and what does not go together is one line."""

import eval_runs
import pytest
from eval_runs import QUICK, evaluated, result_of, run, scores, zsre

files = eval_runs.files


@pytest.mark.slow
def test_methods_by_two_processes_score_as_by_one(files, tmp_path):
    methods = ("--method", "melo,none,ft", *QUICK)
    evaluated(*zsre(files, tmp_path / "one", *methods))
    shown = evaluated(*zsre(files, tmp_path / "two", *methods, "--executor", "spawn", "--workers", 2))
    assert scores(tmp_path / "one") == scores(tmp_path / "two")
    assert list(result_of(tmp_path / "two")["methods"]) == ["melo", "none", "ft"] and "melo" in shown.stdout
    assert result_of(tmp_path / "two")["finished"]


def test_workers_without_an_executor_and_with_routing_are_refused(files, tmp_path):
    cases = {
        "workers (--workers) go with executor spawn or ray": ("--workers", 2),
        "an address (--address) goes with executor ray": ("--executor", "spawn", "--address", "here:1"),
        "--executor: runs of --routing train nothing": ("--routing", "--executor", "spawn"),
    }
    for message, options in cases.items():
        result = run(*zsre(files, tmp_path / "run", *options))
        assert result.exit_code == 1 and message in result.output.replace("\n", " "), result.output
