"""The tasks with long texts: SCOTUS and the biographies."""

import pytest
from task_rows import BIO, CASE, PASSAGE, by_id, file_of

from meloedit.errors import EditError
from meloedit.evaluation.tasks.datasets import TOPICS, Case, split
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.task import FarPrompt, Question


def test_scotus(tmp_path):
    def row(name, year, **more):
        return CASE | {"case_id": name, "year": year, "text": f"Opinion {name} of the Court"} | more

    later = [row("1991-1", 1991), row("2009-1", 2009, issue_area_id=12)]
    early = [row(f"1980-{i}", 1980) for i in range(60)]
    out = [row("2010-1", 2010), row("1999-1", 1999, is_primary=False), row("1999-2", 1999, issue_area_id=11)]
    task = load_task("scotus", [file_of(tmp_path, *early, *later, *out)])
    assert (task.kind, task.only_wrong, task.cleaning["rows"]) == ("document", True, 2)
    assert {item.edit.id: item.edit.target for item in task.items} == {
        "1991-1": "Economic Activity",
        "2009-1": "Federal Taxation",
    }
    assert by_id(task)["1991-1"].edit.prompt == "Opinion 1991-1 of the Court" and task.items[0].rephrases == ()
    found = split(Case(r["case_id"], r["text"], TOPICS[7], r["year"]) for r in early)
    assert set(task.upstream) == {Question(one.text, ("Economic Activity",)) for one in found.held_out}
    assert [one.prompt for one in task.upstream] != [one.text for one in found.held_out]
    assert task.documents == tuple(one.text for one in found.train)
    assert task.files[0]["rows"] == 65


def test_hallucination(tmp_path):
    edits = file_of(tmp_path, PASSAGE, PASSAGE | {"prompt": "This is about Bo.", "bio_index": 4}, name="edits.jsonl")
    bios = file_of(tmp_path, *(BIO | {"index": i} for i in (2, 3, 4)), name="bios.jsonl")
    web = file_of(tmp_path, {"text": "a  long text " * 20}, name="web.jsonl")
    task = load_task("hallucination", [web, bios, edits])
    assert (task.kind, task.only_wrong) == ("passage", False)
    assert {name: (item.subject, item.group) for name, item in by_id(task).items()} == {
        "h0": ("3", None),
        "h1": ("4", None),
    }
    assert by_id(task)["h0"].edit.target == "She was born in 1899."
    opening = "This is a Wikipedia passage about ada moor. "
    assert task.accurate == tuple(Question(opening, ("Ada is a poet.",), bio) for bio in "34")
    assert task.far == (FarPrompt("a  long text " * 20, "web"),)  # whole
    assert [(f["name"], f["role"]) for f in task.files] == [
        ("web.jsonl", "web"),
        ("bios.jsonl", "biographies"),
        ("edits.jsonl", "edits"),
    ]
    with pytest.raises(EditError, match=r"give one file of biographies, not 0 \(none\)"):
        load_task("hallucination", [edits])
    with pytest.raises(EditError, match=r"give one file of edits, not 2 \(edits\.jsonl, edits\.jsonl\)"):
        load_task("hallucination", [edits, bios, edits])
