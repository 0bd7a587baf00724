"""The worst cases of a report: which observations are bad, and in which order they come."""

import json
import re

from report_runs import call, figure, make_run, words

from meloedit.evaluation.report.cases import CASES
from meloedit.evaluation.report.page import write_report
from meloedit.evaluation.report.read import read_run


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
