"""Selection: what a model has no room for."""

import json
from pathlib import Path

import eval_runs
from eval_runs import evaluated, result_of, run, zsre

from meloedit.evaluation.run.selection import left_out_notes
from meloedit.evaluation.tasks.task import Task

files = eval_runs.files


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


def test_a_result_says_what_was_left_out_and_why():
    counts = {"rows": 9, "own_question_near": 2, "conversations": 1, "duplicates": 4, "unreadable": 0, "rule": "..."}
    assert left_out_notes(Task("zsre", "question", (), cleaning=counts)) == [
        "left out: 1 conversation: the model has no chat template",
        "left out: 2 near prompts that, by their words, ask their edit's own question (see the rule of cleaning)",
    ]
