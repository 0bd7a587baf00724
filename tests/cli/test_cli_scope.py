"""The commands for an edit's scope: quiet, allow, scan, review."""

import json

import pytest
from cli_helpers import FACTS, bad, good, good_json, run, write

pytest_plugins = ["cli_fixtures"]
NEAR = "Who wrote the book of the sand?"


def test_quiet_and_allow_with_history_and_rollback(full):
    out = good("allow", full, "book", NEAR, "--reason", "asked daily")
    assert out.startswith("1 prompt given; revision 4 (undo with: meloedit rollback full.melo 3)\n")
    assert f'  "{NEAR}": answered: Jorge' in out or "reaches the edit, but is answered" in out
    out = good("quiet", full, "book", "-", stdin=f"{NEAR}\n")
    assert f'"{NEAR}": the base model answers' in out
    assert good("quiet", full, "book", NEAR).startswith("1 prompt given; revision 5: nothing is new")
    assert "allow prompts" in good("history", full)
    assert "asked daily" in json.dumps(good_json("history", full))
    assert good_json("rollback", full, 3)["changed"] == ["book"]
    assert good_json("show", full, "book").get("quiet") is None


def test_what_cannot_be_amended(full):
    assert "was made for" in bad("quiet", full, "book", FACTS[0]["prompt"])
    assert "is answered by edit 'capital'" in bad("allow", full, "book", FACTS[1]["prompt"])
    assert "did you mean 'legs'?" in bad("allow", full, "leg", NEAR)
    assert "is empty" in bad("quiet", full, "book", " ")
    assert good_json("show", full)["revision"] == 3


def test_scan_lists_what_fires(full, tmp_path):
    log = write(tmp_path / "log.jsonl", FACTS[0], '"Please sing"', {"messages": [{"role": "user", "content": "Sing"}]})
    out = good("scan", full, log, "--html", tmp_path / "scan.html")
    assert out.splitlines()[-1].startswith("1 of 3 prompts (33.33%) would be answered by an edit")
    assert "1 of 3 prompts would be answered" in (tmp_path / "scan.html").read_text()
    report = good_json("scan", full, log)
    assert [hits["id"] for hits in report["edits"]] == ["book"] and report["edits"][0]["listed"][0]["line"] == 1
    new = write(tmp_path / "new.jsonl", {"prompt": "Please sing", "target": "La", "id": "song"})
    report = good_json("scan", full, log, "--edits", new, "--record", tmp_path / "new.scan")
    assert {hits["id"] for hits in report["edits"]} == {"book", "song"}
    for page in (full, log, full.with_name("full.melo.near.jsonl")):
        assert "would replace another file" in bad("scan", full, log, "--html", page)
    assert "there is no folder" in bad("scan", full, log, "--html", tmp_path / "none" / "x.html")
    write(log, '"Please sing"', {"nothing": 1})
    result = run("scan", full, log, "--record", tmp_path / "other")
    assert result.exit_code == 1 and "log.jsonl, line 2: no prompt" in result.stderr.splitlines()[-1]


@pytest.fixture
def noted(full):
    lines = [
        {"prompt": prompt, "edit": edit, "fired": False, "score": None, "time": f"2026-01-01T00:00:0{n}+00:00"}
        for n, (prompt, edit) in enumerate([(NEAR, "book"), ("Sing", "legs"), ("Lima?", "capital"), ("Hm", "gone")])
    ]
    write(full.with_name("full.melo.near.jsonl"), *lines)
    return full


def test_review_with_the_keyboard(noted):
    out = good("review", noted, stdin="?asx")
    assert "[1/3]" in out and "[3/3]" in out
    assert out.endswith("1 allowed, 1 silenced, 0 left; 1 prompt still to review\n")
    assert good_json("show", noted, "book")["variants"] == [NEAR] and good_json("show", noted, "legs")["quiet"] == [
        "Sing"
    ]
    assert [miss["prompt"] for miss in good_json("review", noted)] == ["Lima?"]
    assert good("review", noted, stdin="l").endswith("0 allowed, 0 silenced, 1 left; 0 prompts still to review\n")
    assert good("review", noted).startswith("nothing to review")


def test_review_goes_on_after_what_cannot_be_done_and_ends_with_the_input(noted):
    result = run("review", noted, stdin="n")
    assert result.exit_code == 0 and result.stdout.endswith("3 prompts still to review\n")
    write(
        noted.with_name("full.melo.near.jsonl"),
        {"prompt": FACTS[0]["prompt"], "edit": "book", "fired": True, "score": None, "time": "2026"},
    )
    result = run("review", noted, stdin="s")
    assert "not changed: " in result.stderr and result.stdout.endswith("1 prompt still to review\n")
    assert "[1/1]" in good("review", noted, "--list")


def test_rm_removes_though_the_judge_is_gone(full, monkeypatch):
    from meloedit.errors import ModelError

    def gone(*_):
        raise ModelError("there is no judge x")

    monkeypatch.setattr("meloedit.oversight.still_answered.still_answered", gone)
    result = run("rm", full, "book")
    assert result.exit_code == 0 and result.stdout.startswith("1 edit removed")
    assert result.stderr.startswith("warning: ") and "there is no judge x" in result.stderr
