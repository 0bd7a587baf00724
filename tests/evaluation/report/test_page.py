"""The page of a report: what is on it, of one run and of several."""

import base64
import json
import re
import struct
import sys
import time

import pytest
from report_runs import call, figures, growth, make_run, words

from meloedit.errors import MeloEditError
from meloedit.evaluation.report import plots
from meloedit.evaluation.report.page import write_report


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the slow part of drawing, figures that become pixels, where a test asks of the rest of the page."""
    monkeypatch.setattr(plots, "png", lambda figure, dpi: b"\x89PNG")


def test_the_page_needs_nothing_else(tmp_path):
    made = write_report([make_run(tmp_path / "run")])
    page = made.html.read_text("utf-8")
    assert made.html == tmp_path / "run" / "report.html"
    assert [path.name for path in made.figures] == ["growth.png", "routing.png", "distances.png"]
    assert not re.search(r"<script|<link|https?://|@import|url\(", page)
    inside = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert inside == [path.read_bytes() for path in made.figures]
    for png in inside:
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", png[16:24])) > 300
    text = words(page)
    assert "4 methods (melo, melo-paper, grace, lora) made 200 edits each on the model smollm2" in text
    assert "versions.torch" in text and "2.13.0" in text and "ab" * 32 in text and "zsre.jsonl.gz" in text
    assert "Far prompts are questions of NQ-open." in text
    assert "unfinished" not in text
    assert all(alt.strip() for alt in re.findall(r'alt="([^"]*)"', page))


@pytest.mark.usefixtures("undrawn")
def test_values_absent_are_dashes_and_rivals_are_named(tmp_path):
    made = write_report([make_run(tmp_path / "run")])
    text = words(made.html.read_text("utf-8"))
    assert "Edit success: grace is best (1.000), ahead of melo (0.995), and their intervals overlap." in text
    assert "KL, far: grace is best (0), ahead of melo (0.0012), and their intervals overlap." in text
    assert "Edits a minute: lora is best (90), ahead of melo (55)." in text
    assert "Generality:" not in text  # there melo wins
    assert "lora 0.640 [0.630, 0.650] 0.580 [0.560, 0.600]" in text
    absent = text[text.index("lora 0.640") : text.index("none 0.020")]
    assert " – – 90 " in absent and " 0 " not in absent  # it does not route: never zero


def test_everything_from_data_is_escaped(tmp_path):
    bad = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    folder = make_run(
        tmp_path / "run",
        observed=False,
        task=bad,
        model=bad,
        notes=[bad],
        data=[{"name": bad, "role": bad, "sha256": bad, "rows": bad}],
        provenance={bad: {bad: bad}},
        details={bad: bad},
        methods={bad: {bad: {"value": 1, "ci": None, "n": 2}}, "$x_": {"generality": 0.5}},
        growth={bad: [{"edits": 1, bad: {"value": 0.5, "ci": [0.1, None], "n": 3}}]},
    )
    (folder / "observations").mkdir()
    row = dict.fromkeys(("prompt", "wanted", "answer", "base", "route", "kind"), bad)
    lines = [row | {"set": "edits", "right": False, "routed": "wrong"}, row | {"set": bad, "routed": bad}]
    lines += [{"set": "edits", "right": False, "prompt": "\ud800 \x00 \u202e", "answer": ["a", {"b": bad}]}]
    (folder / "observations" / "$x_.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = write_report([folder]).html.read_text("utf-8")
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page
    assert "\x00" not in page and "\u202e" not in page


@pytest.mark.usefixtures("undrawn")
def test_several_runs_share_a_table(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", observed=False, model="t5-small")
    third = make_run(tmp_path / "c", observed=False, task="scotus")
    made = write_report([first, second, third, first], tmp_path / "deep" / "page")
    assert len(made.runs) == 3
    page = made.html.read_text("utf-8")
    assert page.count("<section") == 3 and page.count("<h2>All runs of zsre, retention</h2>") == 1
    assert "All runs of scotus" not in page
    assert "These runs differ in model: compare them" in page
    assert [path.name for path in made.figures][:1] == ["1-zsre-smollm2-retention-growth.png"]
    assert len(made.figures) == 5 and all(path.is_file() for path in made.figures)
    table = page[page.index("All runs of zsre") : page.index("<section")]
    assert len(re.findall(r'<th scope="row">', table)) == 10
    said = "grace (smollm2) and grace (t5-small) are best (1.000), ahead of melo (smollm2) and melo (t5-small) (0.995)"
    assert said in words(table)
    twins = write_report([first, make_run(tmp_path / "d" / "a", observed=False)], tmp_path / "twins")
    assert str(tmp_path / "d" / "a") in twins.html.read_text("utf-8")


@pytest.mark.usefixtures("undrawn")
def test_the_parts_of_several_protocols_are_runs_in_order(tmp_path):
    for name in ("teacher-forced", "retention"):
        make_run(tmp_path / "run" / name, observed=False, protocol=name)
    made = write_report([tmp_path / "run"])
    assert [run.folder.name for run in made.runs] == ["retention", "teacher-forced"]
    assert made.html == tmp_path / "run" / "report.html"
    assert [path.name for path in made.figures][0] == "1-zsre-smollm2-retention-growth.png"
    for name in ("one", "two"):
        make_run(tmp_path / name / "retention", observed=False)
    made = write_report([tmp_path / name / "retention" for name in ("one", "two")], tmp_path / "page")
    assert [path.name for path in made.figures][0] == "1-zsre-smollm2-retention-one-growth.png"


def test_the_unedited_model_alone_makes_no_edits(tmp_path):
    folder = make_run(tmp_path / "run", observed=False, methods={"none": figures("none")}, growth=None, edits=4)
    text = words(write_report([folder]).html.read_text("utf-8"))
    assert "The unedited model alone, without any of the 4 edits: the model smollm2" in text


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_run_is_marked(tmp_path):
    folder = make_run(tmp_path / "run", finished=False, growth={"melo": growth("melo")[:2], "grace": growth("grace")})
    with open(folder / "observations" / "melo.jsonl", "a") as stream:
        stream.write('{"set": "far", "prom')  # it is being written
    got = call(folder)
    assert got.exit_code == 0, got.output
    assert "is unfinished: so far melo 100, melo-paper, grace 200, lora, none of 200 edits" in got.stderr
    text = words((folder / "report.html").read_text("utf-8"))
    assert "This run is unfinished: so far melo 100" in text
    assert "melo: the last observation is cut off and left out" in text


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # in a narrow terminal the headings break
    folder = make_run(tmp_path / "run")
    got = call(folder, "--out", tmp_path / "page")
    assert got.exit_code == 0, got.output
    assert "report.html, growth.png, routing.png, distances.png" in got.stdout
    assert "edit success" in got.stdout and "0.910" in got.stdout
    got = call(folder, "--json", "--out", tmp_path / "page")
    said = json.loads(got.stdout)
    assert said["html"] == str(tmp_path / "page" / "report.html")
    assert said["figures"] == [str(tmp_path / "page" / f"{name}.png") for name in ("growth", "routing", "distances")]
    assert not list(folder.glob("*.png"))


@pytest.mark.usefixtures("undrawn")
def test_what_cannot_be_written(tmp_path):
    folder = make_run(tmp_path / "run", count=5)
    with pytest.raises(MeloEditError, match="is no folder"):
        write_report([tmp_path / "missing"])
    (tmp_path / "file").write_text("")
    with pytest.raises(MeloEditError, match="is a file, not a folder"):
        write_report([folder], tmp_path / "file" / "page")
    (folder / "report.html").mkdir()
    with pytest.raises(MeloEditError, match="report.html cannot be written"):
        write_report([folder])


@pytest.mark.parametrize(("module", "extra"), [("matplotlib", "plots")])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MeloEditError, match=re.escape(f"needs the extra '{extra}': pip install 'meloedit[{extra}]'")):
        write_report([make_run(tmp_path / "run", observed=False)])


def test_many_observations_make_a_page_of_moderate_size(tmp_path):
    made = write_report([make_run(tmp_path / "run", count=1500)])
    assert made.html.stat().st_size < 3_000_000


@pytest.mark.slow
def test_many_observations_take_seconds(tmp_path):
    folder = make_run(tmp_path / "run", count=1500)
    began = time.process_time()
    write_report([folder])
    assert time.process_time() - began < 20
