"""The report of runs: what is on the page, who is said to win, and how bad input ends."""

import base64
import json
import math
import random
import re
import struct
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from meloedit.cli.commands.report import report
from meloedit.errors import MeloEditError
from meloedit.evaluation.report.cases import CASES
from meloedit.evaluation.report.page import write_report
from meloedit.evaluation.report.read import Measured, read_run
from meloedit.evaluation.report.table import METRICS, Row, make_table, show

FIGURES = {
    "melo": (0.995, 0.91, 0.999, 0.62, 55.0),
    "melo-paper": (0.97, 0.72, 0.93, 0.81, 21.0),
    "grace": (1.0, 0.31, 1.0, 0.99, 44.0),
    "lora": (0.64, 0.58, 0.31, 0.22, 90.0),
    "none": (0.02, 0.02, 1.0, 1.0, None),
}
ROUTED = ("melo", "melo-paper", "grace")


def figure(value, spread=0.02, n=200):
    return {"value": value, "ci": [max(0.0, value - spread), value + spread], "n": n}


def figures(name):
    success, generality, far, near, speed = FIGURES[name]
    made = {"edit_success": figure(success, 0.01), "generality": figure(generality)}
    made |= {"locality_far": figure(far, 0.003), "locality_near": figure(near), "kl_far": figure(1.2 * (1 - far))}
    if name in ROUTED:
        made |= {"right_block_rephrases": figure(generality), "activation_near": figure(1 - near)}
    if speed:
        made |= {"edits_per_minute": {"value": speed, "ci": None, "n": 200}, "bytes_per_edit": figure(24576.0, 0)}
    return made


def growth(name):
    success, generality, far, *_ = FIGURES[name]
    return [
        {
            "edits": edits,
            "edit_success": figure(success - edits / 9000),
            "generality": figure(generality - edits / 4000),
            "locality_far": figure(far),
        }
        for edits in (50, 100, 150, 200)
    ]


def rows(name, count, seed=0):
    """Observations as a run writes them: answers go wrong as often as the figures say."""
    draw = random.Random(f"{name} {seed}")
    success, generality, far, near, _ = FIGURES[name]
    right = {"edits": success, "rephrases": generality, "near": near, "far": far}
    middle = {"edits": 0.0, "rephrases": 0.25, "near": 0.45, "far": 1.1}
    for where in right:
        for item in range(count):
            good, of_edit = draw.random() < right[where], where in ("edits", "rephrases")
            distance = abs(draw.gauss(middle[where], 0.08 if where != "edits" else 0.0))
            routed = None
            if name in ROUTED:
                fired = of_edit if good else not of_edit
                routed = "none" if not fired else "right" if of_edit else "wrong"
            yield {
                "set": where,
                "item": item,
                "k": 0,
                "prompt": f"In {where}, who leads town {item}, and since when?",
                "wanted": f"Leader {item}" if of_edit else None,
                "answer": f"Leader {item}" if good else f"Somebody else {item}",
                "base": f"Nobody {item}" if of_edit else f"Leader {item}",
                "right": good if of_edit else None,
                "route": f"fact-{item}" if routed in ("right", "wrong") else None,
                "routed": routed,
                "distance": distance if name in ROUTED else None,
                "threshold": 0.4 if name in ROUTED else None,
                "kl": None if of_edit else draw.random() * (not good),
                "identical": None if of_edit else good,
                "kind": "nq" if where == "far" else None,
            }


def make_run(folder, count=60, observed=True, **changed):
    folder.mkdir(parents=True)
    result = {
        "protocol": "retention",
        "task": "zsre",
        "model": "smollm2",
        "data": [{"name": "zsre.jsonl.gz", "role": "edits", "sha256": "ab" * 32, "rows": 1000}],
        "edits": 200,
        "provenance": {"versions": {"torch": "2.13.0"}, "git": "0d4787b", "seeds": [0], "machine": {"threads": 2}},
        "methods": {name: figures(name) for name in FIGURES},
        "growth": {name: growth(name) for name in FIGURES if name != "none"},
        "finished": True,
        "notes": ["Far prompts are questions of NQ-open."],
        "details": {"melo": {"rank": 4}},
    }
    (folder / "result.json").write_text(json.dumps(result | changed))
    if observed:
        (folder / "observations").mkdir()
        for name in FIGURES:
            lines = [json.dumps(row) + "\n" for row in rows(name, count)]
            (folder / "observations" / f"{name}.jsonl").write_text("".join(lines))
    return folder


def call(*arguments):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, list(map(str, arguments)))


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


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


def test_the_contest():
    def row(name, value, ci=None):
        return Row(name, {"locality_far": Measured(value, ci), "kl_far": Measured(value, ci)})

    table = make_table(
        [
            row("none", 2.0),
            row("melo", 0.5, (0.4, 0.6)),
            row("grace", 0.9, (0.85, 0.95)),
            row("rag", 0.9, (0.88, 0.92)),
            row("ft", 0.84, (0.8, 0.89)),
            row("lora", math.nan, (math.nan, math.nan)),
            Row("else", {"other metric": Measured(None)}),
        ]
    )
    marks = [[cell["mark"] for cell in line["cells"]] for line in table["rows"]]
    assert marks == [["", "", ""], ["", "best", ""], *[["best", "", ""]] * 2, ["close", "", ""], *[["", "", ""]] * 2]
    assert table["sentences"] == ["Same answer, far: grace and rag are best (0.900), ahead of melo (0.500)."]
    assert [cell["text"] for cell in table["rows"][5]["cells"]] == ["NaN", "NaN", "–"]
    assert [cell["text"] for cell in table["rows"][6]["cells"]] == ["–", "–", "null"]
    assert [group["name"] for group in table["groups"]] == ["locality", "other"]
    assert table["groups"][-1]["columns"][0]["label"] == "other metric"


def test_one_method_alone_is_not_the_best():
    table = make_table([Row("none", {"generality": Measured(0.1)}), Row("grace", {"generality": Measured(0.9)})])
    assert [line["cells"][0]["mark"] for line in table["rows"]] == ["", ""]
    assert table["sentences"] == []


@pytest.mark.parametrize(
    ("value", "share", "text"),
    [
        (1.0, True, "1.000"),
        (0.9996, True, "0.9996"),
        (0.0003, True, "0.0003"),
        (0.0, True, "0.000"),
        (12345.6, False, "12,346"),
        (0.00123, False, "0.00123"),
        (math.inf, True, "∞"),
        (-math.inf, False, "−∞"),
        (math.nan, True, "NaN"),
        (None, True, "null"),
    ],
)
def test_numbers(value, share, text):
    assert show(value, share) == text


def test_no_metric_is_forgotten():
    groups = list(dict.fromkeys(known.group for known in METRICS.values()))
    assert groups == ["edits", "generality", "locality", "routing", "cost"]
    assert len({known.label for known in METRICS.values()}) == len(METRICS) == 35


def test_worst_cases_wrong_route_first(tmp_path):
    folder = make_run(tmp_path / "run", observed=False)
    (folder / "observations").mkdir()
    base = {"set": "rephrases", "k": 0, "wanted": "yes", "answer": "no", "base": "b", "right": False}
    lines = [base | {"item": i, "prompt": f"unrouted {i}", "routed": "none", "route": None} for i in range(20)]
    lines += [base | {"item": i, "prompt": f"misrouted {i}", "routed": "wrong", "route": f"e{i}"} for i in range(3)]
    lines += [{"set": "near", "prompt": f"near {i}", "answer": "x", "base": "y", "kl": i / 10} for i in range(20)]
    lines += [{"set": "near", "prompt": "same", "answer": "x", "base": "x", "identical": False}]
    lines += [{"set": "edits", "prompt": "long " * 500, "right": False, "answer": None}]
    (folder / "observations" / "melo.jsonl").write_text("\n".join(map(json.dumps, lines)))
    worst = read_run(folder).seen["melo"].worst
    cases = worst["rephrases"].cases()
    assert worst["rephrases"].total == 23 and len(cases) == CASES
    assert [case["prompt"] for case in cases[:4]] == ["misrouted 0", "misrouted 1", "misrouted 2", "unrouted 0"]
    assert [case["prompt"] for case in worst["near"].cases()] == [f"near {i}" for i in range(19, 7, -1)]
    assert worst["near"].total == 20
    (cut,) = worst["edits"].cases()
    assert len(cut["prompt"]) <= 400 and cut["prompt"].endswith("…") and cut["answer"] is None
    text = words(write_report([folder]).html.read_text("utf-8"))
    assert "Rephrases answered wrongly (12 of 23)" in text and "misrouted 2" in text and "unrouted 9" not in text


def test_what_is_scored_without_an_answer(tmp_path):
    """Under teacher forcing nothing is generated: what agrees token for token is right, whatever its last bits are."""
    folder = make_run(tmp_path / "run", observed=False)
    (folder / "observations").mkdir()
    silent = {"answer": None, "right": None, "base": "b", "identical": False, "routed": "none"}
    lines = [
        silent | {"set": name, "prompt": f"{name} {agreed}", "agreed": agreed}
        for name in ("edits", "rephrases", "near", "far", "upstream", "portability")
        for agreed in (1.0, 0.5)
    ]
    (folder / "observations" / "melo.jsonl").write_text("\n".join(map(json.dumps, lines)))
    worst = read_run(folder).seen["melo"].worst
    assert {name: [case["prompt"] for case in kind.cases()] for name, kind in worst.items()} == {
        name: [f"{name} 0.5"] for name in ("edits", "rephrases", "near", "far", "upstream")
    }
    page = write_report([folder]).html.read_text("utf-8")
    assert "upstream 0 right/0 wrong/2 none" in page and "Upstream prompts whose answer changed" in page


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


def test_routes_alone(tmp_path):
    shares = {name: figure(0.5) for name in ("right_edit", "coverage_far_1pct", "coverage_near_5pct", "auc_far")}
    at = {name: figure(0.25) for name in ("right_block_rephrases", "wrong_block_rephrases", "activation_near")}
    folder = make_run(
        tmp_path / "run",
        observed=False,
        protocol="routing",
        methods={"melo": shares | at, "rag": shares},
        growth=None,
        edits=1,
    )
    (folder / "observations").mkdir()
    base = {"item": 0, "k": 0, "wanted": "f0", "nearest": "f0", "distance": 0.5, "threshold": 0.7, "route": None}
    rows = [base | {"set": "rephrases", "prompt": "reached", "routed": "right", "route": "f0"}]
    rows += [base | {"set": "rephrases", "prompt": "too far", "routed": "none"}]
    rows += [base | {"set": "attribute", "prompt": "a friend", "routed": "wrong", "wanted": None}]
    rows += [base | {"set": "far", "prompt": "quiet", "routed": "none", "wanted": None}]
    for name, changed in (("melo", {}), ("rag", {"threshold": None, "routed": None, "nearest": "f9"})):
        lines = [json.dumps(row | changed) + "\n" for row in rows]
        (folder / "observations" / f"{name}.jsonl").write_text("".join(lines))
    got = call(folder)
    assert got.exit_code == 0, got.output
    assert all(word in got.stdout for word in ("coverage", "right", "rephrases", "0.250")) and "…" not in got.stdout
    page = (folder / "report.html").read_text("utf-8")
    text = words(page)
    assert "2 methods (melo, rag) routed prompts to 1 edit each on the model smollm2" in text
    assert "rag has no threshold" in text and "nothing went wrong" not in text
    routing = re.search(r'alt="(Routing by set[^"]*)"', page)[1]
    assert "rag" not in routing and "attribute 0 right/1 wrong/0 none" in routing
    assert worst(folder, "melo") == {"rephrases": ["too far"], "attribute": ["a friend"]}
    assert worst(folder, "rag") == {"rephrases": ["reached", "too far"]}
    assert "Rephrases that do not reach their edit" in text and "nearest edit f9" in text


def worst(folder, name):
    return {
        where: [case["prompt"] for case in kind.cases()] for where, kind in read_run(folder).seen[name].worst.items()
    }


def test_the_unedited_model_alone_makes_no_edits(tmp_path):
    folder = make_run(tmp_path / "run", observed=False, methods={"none": figures("none")}, growth=None, edits=4)
    text = words(write_report([folder]).html.read_text("utf-8"))
    assert "The unedited model alone, without any of the 4 edits: the model smollm2" in text


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
    ],
)
def test_damage_is_one_line(tmp_path, change, said):
    folder = make_run(tmp_path / "run", count=5)
    change(folder)
    with pytest.raises(MeloEditError) as error:
        write_report([folder], tmp_path / "page")
    assert said in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "page").exists()


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


@pytest.mark.parametrize(("module", "extra"), [("jinja2", "eval"), ("matplotlib", "plots")])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MeloEditError, match=re.escape(f"needs the extra '{extra}': pip install 'meloedit[{extra}]'")):
        write_report([make_run(tmp_path / "run", observed=False)])


def test_many_observations_take_seconds(tmp_path):
    folder = make_run(tmp_path / "run", count=1500)
    began = time.process_time()
    made = write_report([folder])
    assert time.process_time() - began < 20
    assert made.html.stat().st_size < 3_000_000
