"""`meloedit eval` on rows of KnowEdit and RippleEdits: what is measured of each kind of test."""

import json

import eval_runs
import pytest
from eval_runs import QUICK, evaluated, result_of, run, write

files = eval_runs.files

NAMES = ("Ada", "Brun", "Caro")
KNOWEDIT = [
    {
        "subject": name,
        "prompt": f"The home of {name} is",
        "target_new": town,
        "portability": {
            "Reasoning": [{"prompt": f"The country of the home of {name} is", "ground_truth": [["Peru", "PE"]]}],
            "Subject_Aliasing": [{"prompt": f"The home of {name[0]}. is", "ground_truth": [[town]]}],
        },
        "locality": {
            "Relation_Specificity": [{"prompt": f"The age of {name} is", "ground_truth": [["9"]]}],
            "Forgetfulness": [{"prompt": f"The home of {name}, which is not {town}, is", "ground_truth": [["Rome"]]}],
        },
    }
    for name, town in zip(NAMES, ("Lima", "Oslo", "Bern"), strict=True)
]
RIPPLE = [
    {
        "example_type": "recent",
        "edit": {"prompt": f"The home of {name} is Lima.", "subject_id": "Q1", "relation": "HOME", "target_id": "Q2"},
        "Relation_Specificity": [{"test_queries": [{"prompt": f"The age of {name} is", "answers": []}]}],
        "Logical_Generalization": [
            {"test_queries": [{"prompt": f"The country of {name} is", "answers": [{"value": "Peru", "aliases": []}]}]}
        ],
        **dict.fromkeys(("Subject_Aliasing", "Compositionality_I", "Compositionality_II", "Forgetfulness"), []),
    }
    for name in NAMES
]


def measured(files, tmp_path, task, rows, *more):
    data = write(tmp_path / f"{task}.json", rows)
    out = tmp_path / task
    options = ["--task", task, "--data", data, "--model", files["llama"], "--method", "none,melo", "--out", out]
    evaluated(*options, *QUICK, *more)
    return result_of(out)


def test_knowedit_has_its_tests_by_kind(files, tmp_path):
    result = measured(files, tmp_path, "knowedit", KNOWEDIT)
    melo = result["methods"]["melo"]
    assert melo["portability"]["n"] == 6 and melo["portability@reasoning"]["n"] == 3
    assert {"portability@subject_aliasing", "portability_contained@reasoning", "portability_any"} <= set(melo)
    assert melo["fires_same_subject"]["n"] == 6 and melo["fires_forgetfulness"]["n"] == 3
    assert melo["locality_near@relation_specificity"]["n"] == 3 and melo["edit_success"]["n"] == 3
    none = result["methods"]["none"]
    assert none["locality_near"]["value"] == 1 and "fires_same_subject" not in none
    assert "portability_before" not in none  # the files do not say what was right before


def test_ripple_edits_each_fact_alone(files, tmp_path):
    result = measured(files, tmp_path, "ripple", RIPPLE, "--protocol", "single")
    melo, none = result["methods"]["melo"], result["methods"]["none"]
    assert melo["portability@logical_generalization"]["n"] == 3 and melo["fires_relation_specificity"]["n"] == 3
    assert none["locality_near"]["value"] == none["locality_near@same_subject"]["value"] == 1
    rows = (tmp_path / "ripple" / "observations" / "none.jsonl").read_text().splitlines()
    near = [row for row in map(json.loads, rows) if row["set"] == "near"]
    assert [row["answer"] == row["base"] and row["identical"] for row in near] == [True] * 3


@pytest.mark.parametrize("task", ["knowedit", "ripple"])
def test_bad_input_is_one_line_before_any_work(files, tmp_path, task):
    rows = [{"knowedit": KNOWEDIT, "ripple": RIPPLE}[task][0], {"edit": 3}]
    data = write(tmp_path / "rows.json", rows)
    result = run("--task", task, "--data", data, "--model", files["llama"], "--out", tmp_path / "run")
    assert result.exit_code == 1 and "rows.json, line 2: " in result.output and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()
