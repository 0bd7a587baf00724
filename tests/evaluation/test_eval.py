"""`meloedit eval` whole, on a tiny model saved to a folder: every protocol and kind of task, kills, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meloedit.cli.app import app
from meloedit.evaluation.run.folder import read_json

NAMES = ["Ada", "Brun", "Caro", "Dora", "Egon", "Fred", "Gina", "Hugo", "Ivan", "Jana"]
ROWS = [
    {
        "id": f"f{i}",
        "prompt": f"Where was {name} born?",
        "target": target,
        "target_true": "Rome",
        "subject": name,
        "rephrases": [f"In which town was {name} born?", f"{name} was born where?"],
        "near": [f"How old is {name}?"],
        "portability": [{"prompt": f"In which country was {name} born?", "answers": ["Peru", "peru"]}],
    }
    for i, (name, target) in enumerate(zip(NAMES, ["Lima", "Oslo", "Bern", "Kiel", "Pisa"] * 2, strict=True))
]
FAR = [{"question": f"how many {thing} are there", "answer": ["7"]} for thing in ("rivers", "legs", "books", "kings")]
QUICK = ["--set", "melo.calibration_prompts=200", "--set", "melo.lr=0.1", "--set", "melo.min_target_probability=0.5"]
QUICK += ["--set", "melo.min_similarity=0.7", "--set", "melo.train_batch_size=2"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, make_source, tokenizer):
    """A causal model, a classifier, and data of each kind."""
    root = tmp_path_factory.mktemp("eval")
    make_model("llama").save_pretrained(root / "llama")
    tokenizer.save_pretrained(root / "llama")
    cases = [
        {"case_id": f"c{i}", "text": f"{word} " * 90, "issue_area_id": 1 + i % 3, "is_primary": True, "year": year}
        for i, (word, year) in enumerate(
            (f"case of {name} in {place}", year)
            for name in NAMES
            for place, year in (("Lima", 1980), ("Bern", 1985), ("Oslo", 1995))
        )
    ]
    titles = [f"This is a Wikipedia passage about {name}. " for name in NAMES]
    wise = [{"prompt": t + "First.", "target_new": "He was old.", "bio_index": i} for i, t in enumerate(titles)]
    lives = [
        {"index": i, "concept": name, "gpt3_sentences": ["He lived.", "He died."], "annotation": ["accurate"] * 2}
        for i, name in enumerate(NAMES)
    ]
    from meloedit.evaluation.tasks.datasets import TOPICS

    names = {"id2label": dict(enumerate(TOPICS)), "label2id": {t: i for i, t in enumerate(TOPICS)}}
    classifier, own = make_source("bert", num_labels=len(TOPICS), **names)
    own.model_max_length = 64
    classifier.save_pretrained(root / "bert")
    own.save_pretrained(root / "bert")
    mquake = [
        {
            "case_id": i,
            "requested_rewrite": [
                {
                    "prompt": "{} lives in",
                    "subject": name,
                    "target_new": {"str": "Lima"},
                    "target_true": {"str": "Rome"},
                    "question": f"Where does {name} live?",
                }
            ],
            "questions": [f"In which country does {name} live?"],
            "new_answer": "Peru",
            "new_answer_alias": ["PE"],
        }
        for i, name in enumerate(NAMES)
    ]
    return {
        "llama": str(root / "llama"),
        "bert": str(root / "bert"),
        "zsre": write(root / "zsre.jsonl", ROWS),
        "nq": write(root / "nq.jsonl", FAR),
        "web": write(root / "web.jsonl", [{"text": "a web page about many things " * 12 + str(i)} for i in range(4)]),
        "scotus": write(root / "scotus.jsonl", cases),
        "wise": write(root / "wise.jsonl", wise),
        "lives": write(root / "lives.jsonl", lives),
        "mquake": write(root / "mquake.jsonl", mquake),
    }


def run(*args):
    return CliRunner().invoke(app, ["eval", *map(str, args)])


def evaluated(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def zsre(files, out, *more):
    return [
        "--task", "zsre", "--data", files["zsre"], "--data", files["nq"], "--model", files["llama"], "--out", out,
        "--edits", 4, *more,
    ]  # fmt: skip


def test_a_run_states_protocol_task_counts_and_intervals(files, tmp_path):
    evaluated(*zsre(files, tmp_path / "run", "--method", "melo,none,ft", *QUICK))
    result = result_of(tmp_path / "run")
    assert (result["protocol"], result["task"], result["edits"], result["finished"]) == ("retention", "zsre", 4, True)
    assert {item["role"] for item in result["data"]} == {"edits", "far"}
    melo, none = result["methods"]["melo"], result["methods"]["none"]
    wanted = {"edit_success", "generality", "portability", "locality_far", "locality_near", "identical_far", "kl_far"}
    wanted |= {"right_block_edits", "right_block_rephrases", "wrong_block_rephrases", "activation_near"}
    wanted |= {"activation_far", "edits_per_minute", "answer_time_ratio", "parameters_per_edit", "bytes_per_edit"}
    assert wanted <= set(melo)
    assert "accuracy_edits" not in melo and "ppl_edits" not in melo and "right_block_edits" not in none
    for figure in melo.values():
        assert set(figure) == {"value", "ci", "n"} and figure["ci"][0] <= figure["value"] <= figure["ci"][1]
    assert melo["edit_success"]["value"] == 1 and melo["edit_success"]["n"] == 4
    assert melo["generality"]["n"] == 8 and melo["locality_far"]["n"] == 8
    assert none["edit_success"]["value"] == 0 and none["locality_far"]["value"] == none["identical_near"]["value"] == 1
    assert none["kl_far"]["value"] == 0
    far = [json.loads(line) for line in (tmp_path / "run" / "observations" / "none.jsonl").read_text().splitlines()]
    questions = {(row["item"], row["k"]) for row in far if row["set"] == "far"}
    assert len(questions) == 8 and len({item for item, _ in questions}) == 4  # each asked plain and dressed
    silent = sum(row["set"] == "far" and not row["base"].strip() for row in far)
    assert any("far prompt" in said and "answers nothing" in said for said in result["notes"]) == (silent > 0)
    lines = (tmp_path / "run" / "observations" / "melo.jsonl").read_text().splitlines()
    assert {json.loads(line)["set"] for line in lines} == {"edits", "rephrases", "near", "far", "portability"}


def test_the_same_run_again_scores_the_same_and_another_method_joins(files, tmp_path):
    out = tmp_path / "run"
    evaluated(*zsre(files, out, "--method", "melo", *QUICK))
    first = result_of(out)
    again = evaluated(*zsre(files, out, "--method", "melo", *QUICK))
    assert result_of(out)["methods"] == first["methods"]  # costs too: nothing is timed anew
    assert result_of(out)["details"] == first["details"] and "timing answers" not in again.stderr
    shown = evaluated(*zsre(files, out, "--method", "none"))
    joined = result_of(out)
    assert list(joined["methods"]) == ["melo", "none"] and joined["methods"]["melo"] == first["methods"]["melo"]
    assert joined["provenance"]["configuration"]["settings"]["melo"]["train_batch_size"] == 2 and joined["finished"]
    assert "melo" in joined["details"] and "kept from an earlier command in this folder: melo" in joined["notes"]
    assert "melo" in shown.stdout and "timing answers" in shown.stderr
    (out / "observations" / "melo.jsonl").unlink()
    evaluated(*zsre(files, out, "--method", "none"))
    assert list(result_of(out)["methods"]) == ["none"]  # figures alone are not kept


TIMES = {"edits_per_minute", "answer_time_ratio"}


def scores(folder):
    methods = result_of(folder)["methods"]
    return {name: {key: own[key] for key in own if key not in TIMES} for name, own in methods.items()}


@pytest.mark.parametrize("name", ["melo", "melo-paper", "ft", "grace", "lora"])
def test_a_killed_run_goes_on_to_the_same_scores(files, tmp_path, name):
    more = [*QUICK] if name == "melo" else ["--set", f"{name}.radius=0.001", "--set", f"{name}.edits_per_block=2"]
    more = {"ft": ["--set", "ft.lr=0.05"], "grace": ["--set", "grace.eps=0.001"], "lora": []}.get(name, more)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    evaluated(*zsre(files, whole, "--method", name, *more))
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: sums are added in another order else
    command = [sys.executable, "-m", "meloedit", "eval", *map(str, zsre(files, broken, "--method", name, *more))]
    for wait in (0.0, 0.4, 0.9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=alone)
        until = time.monotonic() + 60
        while process.poll() is None and not list(broken.glob("states/*/progress.json")) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    evaluated(*zsre(files, broken, "--method", name, *more))
    assert scores(broken) == scores(whole)


def test_teacher_forced_and_retention_share_the_edits(files, tmp_path):
    both = "retention,teacher-forced"
    evaluated(*zsre(files, tmp_path / "run", "--method", "melo", "--protocol", both, *QUICK))
    free, forced = result_of(tmp_path / "run" / "retention"), result_of(tmp_path / "run" / "teacher-forced")
    assert forced["protocol"] == "teacher-forced" and forced["methods"]["melo"]["edit_success"]["value"] == 1
    assert free["methods"]["melo"]["bytes_per_edit"] == forced["methods"]["melo"]["bytes_per_edit"]
    assert read_json(tmp_path / "run" / "states" / "melo" / "progress.json")["done"] == 4
    one = run(*zsre(files, tmp_path / "run", "--method", "melo", *QUICK))
    assert one.exit_code == 1 and "parts of several protocols: give --protocol retention,teacher-forced" in one.output
    assert not (tmp_path / "run" / "run.json").exists()


def test_immediate_scores_each_part_and_growth_scores_all_so_far(files, tmp_path):
    evaluated(*zsre(files, tmp_path / "now", "--method", "ft", "--protocol", "immediate", "--set", "ft.lr=0.05"))
    assert result_of(tmp_path / "now")["methods"]["ft"]["edit_success"]["n"] == 4
    evaluated(*zsre(files, tmp_path / "grown", "--method", "melo", "--every", 2, *QUICK))
    growth = result_of(tmp_path / "grown")["growth"]["melo"]
    assert [point["edits"] for point in growth] == [2, 4]
    assert [point["edit_success"]["n"] for point in growth] == [2, 4]


def test_the_paper_protocol_gives_f1_and_prefixes_give_their_own_figures(files, tmp_path):
    more = ["--method", "none,melo", "--protocol", "paper", "--prefixes", *QUICK]
    evaluated(*zsre(files, tmp_path / "run", *more))
    melo = result_of(tmp_path / "run")["methods"]["melo"]
    assert {"f1_edits", "f1_generality", "f1_locality"} <= set(melo) and "edit_success" not in melo
    assert {f"f1_edits@{name}" for name in ("system", "instruction", "sentences", "example", "turn")} <= set(melo)


def test_a_classifier_is_scored_by_accuracy(files, tmp_path):
    evaluated(
        "--task", "scotus", "--data", files["scotus"], "--model", files["bert"], "--method", "none,melo,ft",
        "--out", tmp_path / "run", "--edits", 3, "--set", "ft.lr=0.05", "--set", "melo.false_activation=0.1", *QUICK,
    )  # fmt: skip
    methods = result_of(tmp_path / "run")["methods"]
    assert methods["none"]["accuracy_edits"]["value"] == 0  # only what it errs on is edited
    assert {"accuracy_edits", "accuracy_generality", "accuracy_upstream", "locality_far"} <= set(methods["ft"])
    assert methods["melo"]["accuracy_edits"]["value"] == 1


def test_passages_are_scored_by_perplexity(files, tmp_path):
    evaluated(
        "--task", "hallucination", "--data", files["wise"], "--data", files["lives"], "--data", files["web"],
        "--model", files["llama"], "--method", "none,melo", "--out", tmp_path / "run", "--edits", 3, *QUICK,
    )  # fmt: skip
    methods = result_of(tmp_path / "run")["methods"]
    assert {"ppl_edits", "ppl_accurate", "ppl_locality", "accurate_retention", "edit_success"} <= set(methods["melo"])
    assert methods["melo"]["ppl_edits"]["value"] < methods["none"]["ppl_edits"]["value"]
    assert methods["none"]["ppl_accurate"]["n"] == 6  # two sentences of each biography that is edited


def test_cases_are_edited_apart(files, tmp_path):
    evaluated(
        "--task", "mquake", "--data", files["mquake"], "--model", files["llama"], "--method", "none,melo",
        "--out", tmp_path / "run", "--edits", 3, *QUICK,
    )  # fmt: skip
    melo = result_of(tmp_path / "run")["methods"]["melo"]
    assert melo["edit_success"]["value"] == 1 and melo["portability"]["n"] == 3 and "edits_per_minute" not in melo


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


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--task", "squad"], "no task 'squad' (known: zsre, counterfact, mquake, scotus, hallucination)"),
        (["--method", "rome"], "no method 'rome'; there are: melo"),
        (["--protocol", "fast"], "no protocol 'fast'; there are: retention, teacher-forced, immediate, paper"),
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


@pytest.mark.parametrize(
    "line", ["speed = 1", "edits = 'all'", "data = 3", "settings = 4", "task = [", "dtype = 'int3'"]
)
def test_a_bad_configuration_file_is_one_line(files, tmp_path, line):
    (tmp_path / "run.toml").write_text(line)
    result = run("--config", tmp_path / "run.toml")
    assert result.exit_code == 1 and "run.toml" in result.output and result.output.count("\n") == 1


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


def test_what_a_model_has_no_room_for_is_left_out_and_counted(files, tmp_path):
    rows = [json.loads(line) for line in Path(files["zsre"]).read_text().splitlines()]
    long = " ".join(["word"] * 5000)
    rows[0]["rephrases"] = [long, *rows[0].get("rephrases", [])]
    rows[1]["near"], rows[1]["prompt"] = [long], rows[1]["prompt"] + long
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluated(*zsre({**files, "zsre": str(path)}, tmp_path / "run", "--method", "none", "--edits", 9))
    result = result_of(tmp_path / "run")
    cleaning = result["provenance"]["cleaning"]
    assert cleaning["unwritable"] == 1 and cleaning["unreadable"] == 1 and result["edits"] == 9
    assert any("left out: 1 edit," in said for said in result["notes"])
    said = run(*zsre({**files, "zsre": str(path)}, tmp_path / "ten", "--method", "none", "--edits", 10))
    assert said.exit_code == 1 and "9 edits (of 10 rows; left out: 1 unwritable), fewer than the 10" in said.output
    assert "give --edits 9, or more data" in said.output


def test_a_store_that_is_gone_is_said_with_what_to_do(files, tmp_path):
    args = zsre(files, tmp_path / "run", "--method", "melo", *QUICK)
    evaluated(*args)
    (tmp_path / "run" / "states" / "melo" / "edits.melo").unlink()
    said = run(*args)
    assert said.exit_code == 1 and "remove" in said.output and "states/melo, and the edits are made anew" in said.output


def test_a_folder_is_one_process_at_a_time_and_no_mistake_takes_it(files, tmp_path):
    from meloedit.evaluation.run.folder import alone

    with alone(tmp_path / "run"):
        result = run(*zsre(files, tmp_path / "run", "--method", "none"))
    assert result.exit_code == 1 and "another process is running in" in result.output
    wrong = run(*zsre({**files, "llama": str(tmp_path / "lama")}, tmp_path / "run", "--method", "none"))
    assert wrong.exit_code == 1 and "no model at" in wrong.output
    evaluated(*zsre(files, tmp_path / "run", "--method", "none,none"))


@pytest.mark.parametrize("option", ["--method", "--protocol"])
def test_no_name_is_no_default(files, tmp_path, option):
    result = run(*zsre(files, tmp_path / "run", option, ","))
    assert result.exit_code == 1 and f"{option} is missing" in result.output
