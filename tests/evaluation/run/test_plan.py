"""The options of `meloedit eval`: configuration files, and bad input in one line."""

import tomllib
from pathlib import Path

import eval_runs
import pytest
from eval_runs import evaluated, result_of, run, zsre

from meloedit.methods import METHODS, method_class

files = eval_runs.files


def test_a_configuration_file_says_the_same(files, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        f"task = 'zsre'\ndata = ['{files['zsre']}']\nmodel = '{files['llama']}'\nmethod = 'none'\nedits = 9\n"
        f"out = '{tmp_path / 'run'}'\n[settings.none]\nseed = 3\n"
    )
    evaluated("--config", config, "--edits", 2)
    result = result_of(tmp_path / "run")
    assert result["edits"] == 2 and result["provenance"]["configuration"]["settings"] == {"none": {"seed": 3}}
    assert any("far locality" in said for said in result["notes"]) and "locality_far" not in result["methods"]["none"]


def test_a_file_may_have_settings_of_methods_that_do_not_run(files, tmp_path):
    (tmp_path / "run.toml").write_text(
        "method = ['none', 'grace']\n[settings.none]\nseed = 3\n[settings.grace]\neps = 2.0\n"
    )
    evaluated(*zsre(files, tmp_path / "run", "--config", tmp_path / "run.toml", "--method", "none"))
    settings = result_of(tmp_path / "run")["provenance"]["configuration"]["settings"]
    assert settings == {"none": {"seed": 3}}
    (tmp_path / "run.toml").write_text("[settings.graze]\neps = 2.0\n")
    result = run(*zsre(files, tmp_path / "run", "--config", tmp_path / "run.toml", "--method", "none"))
    assert result.exit_code == 1 and "a setting is given for 'graze', which is no method" in result.output


def test_the_settings_of_todays_tables_are_those_of_every_method():
    config = tomllib.loads((Path(__file__).parents[3] / "benchmarks/rivals/smollm2.toml").read_text())
    assert sorted(config["method"]) == sorted(METHODS)
    for name, settings in config["settings"].items():
        method_class(name).read_settings(settings)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--task", "squad"],
            "no task 'squad' (known: zsre, counterfact, mquake, knowedit, ripple, scotus, ",
        ),
        (["--method", "romeo"], "no method 'romeo'; there are: melo"),
        (["--protocol", "fast"], "no protocol 'fast'; there are: retention, teacher-forced, immediate, single, paper"),
        (["--edits", 11], "10 edits, fewer than the 11 asked for"),
        (["--task", "scotus", "--method", "rag"], "fit task zsre"),
        (["--set", "grace.eps=1"], "a setting is given for 'grace', which is not among --method"),
        (["--set", "eps=1"], "give METHOD.NAME=VALUE"),
        (["--set", "none.colour=1"], "no setting 'colour'"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--protocol", "retention,immediate"], "can share a run"),
        (["--model", "/nowhere/at/all"], "no model at /nowhere/at/all"),
        (["--data", ""], "--data: give the name of a file, not an empty text"),
        (["--every", 2], "with 2 edits nothing would be scored before the end"),
        (["--task", "scotus", "--data", "{scotus}", "--edits", 1], "asks for labels, and LlamaForCausalLM has none"),
        (["--model", "{bert}"], "task zsre asks for words, and BertForSequenceClassification is a classifier"),
        (["--task", "mquake", "--data", "{mquake}", "--every", 1], "--every does not fit task mquake"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, more, words):
    options = {"--task": "zsre", "--data": files["zsre"], "--model": files["llama"], "--method": "none"}
    options |= {"--out": str(tmp_path / "run"), "--edits": "2"}
    options |= dict(zip(more[::2], (str(value).format(**files) for value in more[1::2]), strict=True))
    result = run(*[part for pair in options.items() for part in pair])
    assert result.exit_code == 1 and words in result.output
    assert result.output.count("error:") == 1 and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "line", ["speed = 1", "edits = 'all'", "data = 3", "settings = 4", "task = [", "dtype = 'int3'"]
)
def test_a_bad_configuration_file_is_one_line(files, tmp_path, line):
    (tmp_path / "run.toml").write_text(line)
    result = run("--config", tmp_path / "run.toml")
    assert result.exit_code == 1 and "run.toml" in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize("option", ["--method", "--protocol"])
def test_no_name_is_no_default(files, tmp_path, option):
    result = run(*zsre(files, tmp_path / "run", option, ","))
    assert result.exit_code == 1 and f"{option} is missing" in result.output
