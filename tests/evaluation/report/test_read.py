"""Reading a run folder: numbers of every kind, damage, names that lead out of it."""

import json
import math

import pytest
from report_runs import make_run, words

from meloedit.errors import MeloEditError
from meloedit.evaluation.report.page import write_report
from meloedit.evaluation.report.read import read_run


def test_numbers_that_are_none(tmp_path):
    odd = {"value": math.nan, "ci": [-math.inf, math.inf], "n": 0}
    folder = make_run(
        tmp_path / "run",
        observed=False,
        methods={"melo": {"ppl_edits": odd, "f1_edits": {"value": None, "ci": [None, None], "n": None}}, "ft": {}},
        growth={"melo": [{"edits": 10, "ppl_edits": odd}, {"edits": 20, "ppl_edits": {"value": 10**400}}], "ft": []},
    )
    (folder / "observations").mkdir()
    lines = [{"set": s, "distance": d, "threshold": d, "kl": d} for s in ("near", "far") for d in (math.inf, 1, None)]
    lines += [{"set": "far", "distance": "no number", "routed": "none", "answer": "a", "base": "b", "kl": math.nan}]
    (folder / "observations" / "melo.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = write_report([folder])
    text = words(made.html.read_text("utf-8"))
    assert "NaN [−∞, ∞]" in text and "null [null, null]" in text
    assert len(made.figures) == 3
    bare = make_run(tmp_path / "bare", observed=False, methods={}, growth=None, edits=None, notes=None, data=None)
    made = write_report([bare])
    assert made.figures == [] and "No method has figures yet." in made.html.read_text("utf-8")


def test_a_method_name_is_no_way_out_of_the_folder(tmp_path):
    folder = make_run(tmp_path / "run", methods={"../../outside": {}, "..\x00": {}, "/": {}}, growth={})
    (tmp_path / "outside.jsonl").write_text("not read")
    assert "../../outside" not in read_run(folder).seen


def damage(name, line, text):
    def change(folder):
        path = folder / name
        lines = path.read_text().splitlines()
        lines[line - 1] = text
        path.write_text("\n".join(lines) + "\n")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "result.json").unlink(),
            "is no run folder: it has no result.json; a run is made with",
        ),
        (lambda folder: (folder / "result.json").write_text('{\n"a": 1,\n}'), "result.json, line 3: damaged ("),
        (lambda folder: (folder / "result.json").write_bytes(b'{\n"a": "\xff"}'), "result.json, line 2: damaged ("),
        (lambda folder: (folder / "result.json").write_text("[" * 99999), "result.json: damaged ("),
        (lambda folder: (folder / "result.json").write_text("[]"), "result.json, line 1: damaged (no JSON object)"),
        (damage("result.json", 1, '{"methods": []}'), "damaged (methods is no JSON object)"),
        (damage("result.json", 1, '{"methods": {"melo": 3}}'), "damaged (methods.melo is no JSON object)"),
        (damage("result.json", 1, '{"methods": {"m": {"g": {"value": "x"}}}}'), "damaged (methods.m.g is no figure"),
        (damage("result.json", 1, '{"growth": {"m": [{"generality": 1}]}}'), "damaged (growth.m[0] has no number"),
        (damage("observations/grace.jsonl", 7, '{"set": "far",'), "grace.jsonl, line 7: damaged ("),
        (damage("observations/grace.jsonl", 2, '{"prompt": "x"}'), "grace.jsonl, line 2: damaged (no observation"),
        (damage("observations/grace.jsonl", 2, "[" * 99999), "grace.jsonl, line 2: damaged ("),
        (damage("observations/grace.jsonl", 3, '{"set": "far", "item": NaN}'), "line 3: damaged (item is no whole"),
        (damage("observations/grace.jsonl", 2, '{"set": "' + "a" * 1_000_001 + '"}'), "line 2: damaged (longer than"),
    ],
)
def test_damage_is_one_line(tmp_path, change, said):
    folder = make_run(tmp_path / "run", count=5)
    change(folder)
    with pytest.raises(MeloEditError) as error:
        write_report([folder], tmp_path / "page")
    assert said in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "page").exists()
