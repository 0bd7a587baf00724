"""The folder of a run: other configurations, damage, a lost store, a second process."""

import eval_runs
from eval_runs import QUICK, evaluated, run, scores, zsre

files = eval_runs.files


def test_a_folder_of_another_configuration_is_refused(files, tmp_path):
    evaluated(*zsre(files, tmp_path / "run", "--method", "none"))
    several = run(*zsre(files, tmp_path / "run", "--method", "none", "--protocol", "retention,teacher-forced"))
    assert several.exit_code == 1 and "holds a run of one protocol: choose another --out" in several.output
    assert not (tmp_path / "run" / "retention").exists()
    for more in (["--seed", 5], ["--edits", 3], ["--protocol", "teacher-forced"]):
        result = run(*zsre(files, tmp_path / "run", "--method", "none", *more))
        assert result.exit_code == 1 and "holds a run of another configuration" in result.output
    evaluated(*zsre(files, tmp_path / "two", "--method", "ft"))
    result = run(*zsre(files, tmp_path / "two", "--method", "ft", "--set", "ft.lr=0.5"))
    assert result.exit_code == 1 and "holds edits made with other settings" in result.output
    assert f"or remove {tmp_path / 'two' / 'states' / 'ft'}" in result.output
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    result = run(*zsre(files, tmp_path / "other", "--method", "none"))
    assert result.exit_code == 1 and "is not empty and holds no run" in result.output


def test_damaged_files_of_a_run_are_made_anew_or_named(files, tmp_path):
    out = tmp_path / "run"
    args = zsre(files, out, "--method", "ft", "--set", "ft.lr=0.05")
    evaluated(*args)
    first = scores(out)
    for part in (*(out / "parts").rglob("*.json"), *(out / "states" / "base").glob("*.json")):
        part.write_text("[]")
    evaluated(*args)
    assert scores(out) == first
    for name, words in (("run.json", "choose another --out"), ("states/ft/progress.json", "the edits are made anew")):
        held = (out / name).read_text()
        (out / name).write_text("[]")
        result = run(*args)
        assert result.exit_code == 1 and "is damaged: remove" in result.output and words in result.output
        (out / name).write_text(held)


def test_a_store_that_is_gone_is_said_with_what_to_do(files, tmp_path):
    args = zsre(files, tmp_path / "run", "--method", "melo", *QUICK)
    evaluated(*args)
    (tmp_path / "run" / "states" / "melo" / "edits.melo").unlink()
    said = run(*args)
    assert said.exit_code == 1 and "remove" in said.output and "states/melo, and the edits are made anew" in said.output


def test_a_folder_is_one_process_at_a_time_and_no_mistake_takes_it(files, tmp_path):
    from meloedit.evaluation.run.folder import locked

    with locked(tmp_path / "run"):
        result = run(*zsre(files, tmp_path / "run", "--method", "none"))
    assert result.exit_code == 1 and "another process is running in" in result.output
    wrong = run(*zsre({**files, "llama": str(tmp_path / "lama")}, tmp_path / "run", "--method", "none"))
    assert wrong.exit_code == 1 and "no model at" in wrong.output
    evaluated(*zsre(files, tmp_path / "run", "--method", "none,none"))
