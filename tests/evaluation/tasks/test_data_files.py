"""Data files: lists, gzip, the hub, and files that do not fit a task."""

import gzip
import hashlib
import json
from dataclasses import asdict

import pytest
from task_rows import (
    BIO,
    CASE,
    FLAT,
    FULL,
    KNOWEDIT,
    MEND,
    PASSAGE,
    case,
    fact,
    file_of,
    ids,
)

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task


def test_files_are_named_without_their_folders(tmp_path):
    path = file_of(tmp_path, fact(), fact("What?"))
    digest = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    task = load_task("zsre", [path])
    assert task.files == ({"name": "rows.jsonl", "role": "edits", "sha256": digest, "rows": 2},)
    json.dumps(asdict(task))


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz", "rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_lists_and_gzip_are_read_whatever_the_name(tmp_path, name, listed, packed):
    packed = packed or name.endswith(".gz")
    rows = [MEND, MEND | {"src": "Who?", "subject": "Bo"}]
    text = json.dumps(rows, indent=1) if listed else "\n".join(map(json.dumps, rows))
    data = gzip.compress(text.encode()) if packed else text.encode()
    (tmp_path / name).write_bytes(data)
    task = load_task("zsre", [str(tmp_path / name)])
    assert sorted(ids(task)) == ["zsre-0", "zsre-1"]
    assert (task.files[0]["sha256"], task.files[0]["rows"]) == (hashlib.sha256(data).hexdigest(), 2)


def test_a_list_that_is_not_one(tmp_path):
    path = tmp_path / "rows.json"
    assert load_task("zsre", [file_of(tmp_path, fact(), name="rows.json")]).items  # lines under a list's name
    deep = '[{"prompt": "Who?", "target": ' + "[" * 70 + "]" * 70 + "}]"
    for text, words in (
        ('[{"prompt": "Who?"', "rows.json: not JSON"),
        ("[]", "rows.json: no rows in it"),
        ("[[]]", "rows.json, row 1: expected an object, not list"),
        (deep, "rows.json, row 1: nested more than 64 levels deep"),
        (json.dumps([fact(), fact("What?", "")]), "rows.json, row 2: target must be a non-empty string"),
    ):
        path.write_text(text)
        with pytest.raises(EditError, match=words) as raised:
            load_task("zsre", [str(path)])
        assert "\n" not in str(raised.value)


def test_a_file_of_the_hub_is_fetched(tmp_path, monkeypatch):
    asked = []

    def fetch(**kwargs):
        asked.append(kwargs)
        return file_of(tmp_path, fact())

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    task = load_task("zsre", ["hf://datasets/someone/facts/data/edits.jsonl"])
    assert asked == [{"repo_id": "someone/facts", "filename": "data/edits.jsonl", "repo_type": "dataset"}]
    assert task.files[0]["name"] == "edits.jsonl" and len(task.items) == 1

    def fail(**kwargs):
        raise OSError("no way\n  to the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(EditError, match=r"^hf://datasets/a/b/c: cannot be fetched from the hub \(no way to the hub\)$"):
        load_task("zsre", ["hf://datasets/a/b/c"])
    for path in ("hf://datasets/a/b", "hf://a/b/c", "hf://datasets//b/c"):
        with pytest.raises(EditError, match="is written hf://datasets/OWNER/NAME/FILE"):
            load_task("zsre", [path])


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("zsre", case(1), r"no prompt and no target for task zsre; its fields \(case_id, .*\) fit task mquake"),
        ("zsre", FLAT, r"no target for task zsre; its fields \(.*\) fit task counterfact"),
        ("zsre", FULL, "fit task counterfact"),
        ("counterfact", MEND, "no prompt and no target for task counterfact; .* fit task zsre"),
        ("counterfact", PASSAGE, "no target for task counterfact; .* fit task hallucination"),
        ("mquake", FULL, "no questions and no new_answer for task mquake; .* fit task counterfact"),
        ("scotus", fact(), r"its fields \(prompt, target\) fit task zsre or counterfact"),
        ("mquake", CASE, "fit task scotus"),
        ("mquake", BIO, "fit task hallucination"),
        ("hallucination", KNOWEDIT, "no bio_index for task hallucination; .* fit task zsre"),
        (
            "zsre",
            {"prompt": "Who?", "answer": "x"},
            r"no target for task zsre; its fields \(prompt, answer\) fit no task",
        ),
        ("zsre", {"text": "words", "label": 1}, r"its fields \(text, label\) fit no task"),
        ("zsre", {"prompt": "Who?", "target": None}, "no target for task zsre"),
    ],
)
def test_a_file_that_does_not_fit_says_what_it_lacks_and_what_it_fits(tmp_path, task, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 1: .*{words}") as raised:
        load_task(task, [file_of(tmp_path, row)])
    assert "\n" not in str(raised.value)
