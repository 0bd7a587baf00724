"""`meloedit eval` under every protocol and on every kind of task, and after a kill."""

import itertools
import json
import os
import signal
from functools import partial

import eval_runs
import pytest
from eval_runs import QUICK, evaluated, result_of, run, scores, zsre
from support.store_cases import child, finished

from meloedit.evaluation.run import method_run
from meloedit.evaluation.run.folder import read_json
from meloedit.store import Store

files = eval_runs.files


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


def run_to_the_write(number, done, args):
    """Run a command that is killed with its ``number``-th write, of a file or into a store: after it, or just before.

    A forked process runs it, so that torch need not start again, and the moment is the same on every machine.
    """
    writes = itertools.count(1)

    def killing(write):
        def write_or_die(*args, **kwargs):
            last = next(writes) == number
            if last and not done:
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(*args, **kwargs)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return write_or_die

    os.replace, Store.put = killing(os.replace), killing(Store.put)
    run(*args)


def test_answers_are_timed_once_for_all_protocols(files, tmp_path, monkeypatch):
    out, timed = tmp_path / "run", []
    measure = method_run.answer_time
    monkeypatch.setattr(method_run, "answer_time", lambda *args: timed.append(1) or measure(*args))
    evaluated(*zsre(files, out, "--method", "none", "--protocol", "retention,teacher-forced"))
    one, other = (result_of(out / name)["methods"]["none"] for name in ("retention", "teacher-forced"))
    assert len(timed) == 1 and one["answer_time_ratio"] == other["answer_time_ratio"]
    path = out / "states" / "none" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"answer_time": {"value": 1}}))
    bad = run(*zsre(files, out, "--method", "none", "--protocol", "retention,teacher-forced"))
    assert bad.exit_code == 1 and "progress.json is damaged" in bad.output


@pytest.mark.parametrize("name", ["melo", "melo-paper", "ft", "grace", "lora"])
def test_a_killed_run_goes_on_to_the_same_scores(files, tmp_path, name):
    more = {
        "melo": QUICK,
        "melo-paper": ["--set", "melo-paper.radius=0.001", "--set", "melo-paper.edits_per_block=2"],
        "ft": ["--set", "ft.lr=0.05"],
        "grace": ["--set", "grace.eps=0.001"],
        "lora": ["--set", "lora.steps=20"],
    }[name]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    evaluated(*zsre(files, whole, "--method", name, *more))
    args = zsre(files, broken, "--method", name, *more)
    # After the note of its first state, before the note of the next one, and some writes later.
    for number, done in ((2, True), (2, False), (5, True)):
        with child(partial(run_to_the_write, number, done, args)) as pid:
            assert finished(pid) == -signal.SIGKILL
    evaluated(*args)
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


def test_single_makes_each_edit_alone(files, tmp_path):
    more = ["--protocol", "single", "--set", "ft.lr=0.05", "--set", "ft.depth=1.0"]
    evaluated(*zsre(files, tmp_path / "alone", "--method", "ft", *more))
    result = result_of(tmp_path / "alone")
    figures, details = result["methods"]["ft"], result["details"]["ft"]
    assert details["processor_seconds_editing"] >= 4 * 0.5 * details["processor_seconds_per_edit"] > 0
    assert figures["edit_success"]["n"] == 4 and "edits_per_minute" not in figures and "locality_far" not in figures
    refused = run(*zsre(files, tmp_path / "no", "--method", "ft", "--protocol", "single", "--every", 2))
    assert "--every does not fit protocol single: each edit is edited by itself" in refused.output


@pytest.mark.slow
def test_all_rivals_that_change_weights_run_and_go_on(files, tmp_path):
    located = {"tokens": 200, "contexts": 1, "v_num_grad_steps": 2, "depth": 0.5}
    settings = {f"{name}.{key}": value for name in ("rome", "memit", "alphaedit") for key, value in located.items()}
    settings |= {"memit.layers": 2, "alphaedit.layers": 2, "alphaedit.nullspace_threshold": 10.0, "wise.n_iter": 2}
    settings |= {"locft.passes": 2, "wise.contexts": 1, "ultraedit.lr": 0.01}
    names = ["rome", "memit", "alphaedit", "locft", "ultraedit", "wise"]
    for some in (names[:3], names):  # the others join a finished run
        own = [f"{name}={value}" for name, value in settings.items() if name.split(".")[0] in some]
        more = [part for text in own for part in ("--set", text)]
        evaluated(*zsre(files, tmp_path / "run", "--method", ",".join(some), *more))
    methods = result_of(tmp_path / "run")["methods"]
    assert all(
        methods[name]["edit_success"]["n"] == 4 and methods[name]["bytes_per_edit"]["value"] > 0 for name in names
    )


def test_an_edit_that_a_method_cannot_make_is_refused_before_any_work(files, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"prompt": "who sings in the old town?", "target": "we", "id": "x"}')
    args = ["--task", "zsre", "--data", tmp_path / "own.jsonl", "--model", files["llama"], "--method", "rome"]
    refused = run(*args, "--out", tmp_path / "no")
    assert refused.exit_code == 1 and "method rome writes at the subject: edit " in refused.output
    assert not (tmp_path / "no" / "result.json").exists()


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
    assert melo["portability_before"]["n"] == melo["portability@2_hops"]["n"] == 3 and melo["portability_any"]["n"] == 3
    lines = (tmp_path / "run" / "observations" / "melo.jsonl").read_text().splitlines()
    follows = [row for row in map(json.loads, lines) if row["set"] == "portability"]
    assert all(row["contained"] is not None and row["before"] is False for row in follows)
