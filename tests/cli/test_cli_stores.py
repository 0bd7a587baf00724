"""The commands that need only the store, and stores that are missing, damaged or in use."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import bad, good, good_json, write

from meloedit.store import Store

pytest_plugins = ["cli_fixtures"]


def test_ls_and_show(full):
    out = good("ls", full)
    assert [row.split()[0] for row in out.splitlines()[2:]] == ["book", "capital", "legs"]
    assert [row["enabled"] for row in good_json("ls", full)] == [True] * 3
    assert good_json("ls", full, "--at", 2) == []
    shown = good("show", full, "legs")
    assert "prompt           How many legs has a spider?\n" in shown and "metadata.source  zoo\n" in shown
    assert good_json("show", full, "legs")["history"][0]["action"] == "edit"
    assert good_json("show", full)["edits"] == 3
    assert "model.fingerprint " in good("show", full)
    assert "model.chosen " in good("show", full) and "feed-forward" in good_json("show", full)["model"]["chosen"]


def test_rm_disable_enable_rollback_and_history(full):
    out = good("rm", full, "book", "legs")
    assert out == "2 edits removed; revision 4 (undo with: meloedit rollback full.melo 3)\n"
    assert good("disable", full, "capital").startswith("1 edit changed; revision 5 ")
    assert good("disable", full, "capital") == "nothing to change; revision 5\n"
    assert good_json("ls", full)[0]["enabled"] is False
    assert good("enable", full, "capital").startswith("1 edit changed; revision 6 ")
    back = good_json("rollback", full, 3)
    assert back == {"revision": 7, "before": 6, "removed": [], "added": ["book", "legs"], "changed": []}
    assert good("ask", full, "Who wrote the book of sand?") == "Jorge\n"
    actions = [item["action"] for item in good_json("history", full)]
    assert actions == ["init", "calibrate", "edit", "remove", "disable", "enable", "rollback"]
    assert [item["action"] for item in good_json("history", full, "legs")] == ["edit", "remove", "rollback"]
    out = good("history", full, "--limit", 1).splitlines()
    assert (
        len(out) == 3 and out[-1].split()[0] == "7" and out[-1].endswith("rollback to 3   +book, +legs".ljust(40)[:0])
    )
    assert "rollback to 3" in out[-1] and "+book, +legs" in out[-1]


def test_commands_on_the_store_do_not_need_the_model(full, tmp_path):
    code = "import sys; from meloedit.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    code += "; assert not {'torch', 'transformers'} & sys.modules.keys(), 'torch was imported'"
    for args in (["ls"], ["show"], ["history"], ["disable", "book"], ["rm", "book"], ["rollback", "3"]):
        subprocess.run([sys.executable, "-c", code, args[0], str(full), *args[1:]], check=True, capture_output=True)


def test_ids_and_revisions_that_do_not_exist(full):
    for command in ("rm", "enable", "disable"):
        assert bad(command, full, "book", "leg") == "full.melo has no edit 'leg'; did you mean 'legs'?"
    assert bad("show", full, "zzz") == "full.melo has no edit 'zzz'; see them with: meloedit ls"
    assert bad("history", full, "capitol") == "full.melo has no edit 'capitol'; did you mean 'capital'?"
    assert bad("rollback", full, 9) == "full.melo has no revision 9: it has 1 to 3"
    assert bad("ls", full, "--at", 0) == "full.melo has no revision 0: it has 1 to 3"
    assert good_json("history", full)[-1]["revision"] == 3


def test_control_characters_are_spelled_out(empty):
    good("edit", empty, "-p", "Who leads \x1b[31mOhm?", "-t", "Ada", "--id", "a\x1b[2J\nb", "-v")
    for args in (["ls"], ["show"], ["show", "a\x1b[2J\nb"], ["history"]):
        assert "\x1b" not in (out := good(args[0], empty, *args[1:])), out
    assert "a\\x1b[2J\\nb" in good("history", empty)
    assert "\x1b" not in bad("show", empty, "\x1b[2J")


@pytest.mark.parametrize(
    "command", ["ls", "history", "check", "calibrate", "show", "rm", "enable", "rollback", "ask", "edit"]
)
def test_a_store_that_is_not_there(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = {"rm": ["x"], "enable": ["x"], "rollback": [1], "ask": ["x"], "edit": ["-p", "x", "-t", "y"]}
    assert bad(command, "no.melo", *more.get(command, [])) == (
        "no store at no.melo; make one with: meloedit init no.melo --model MODEL"
    )
    assert os.listdir() == []


def test_a_file_that_is_not_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("x.melo"), "hello " * 100)
    for args in (["ls", "x.melo"], ["edit", "x.melo", "-p", "x", "-t", "y"], ["ask", "x.melo", "x"]):
        assert bad(*args) == "x.melo is not a meloedit store (it is no SQLite file, or its head is damaged)"
    assert bad("ls", ".") == ". is a folder, not a store: give the path of a store's file"


def test_a_truncated_store(full):
    data = full.read_bytes()
    full.write_bytes(data[: len(data) // 2])
    assert "full.melo is damaged (" in bad("ls", full)
    full.write_bytes(b"")
    assert bad("ls", full) == "full.melo is not a meloedit store (it is empty, or another program's SQLite file)"


def test_a_store_of_a_newer_format(full):
    with sqlite3.connect(full) as db:
        db.execute("PRAGMA user_version = 99")
    for args in (["ls"], ["ask", "x"], ["rm", "x"]):
        assert bad(args[0], full, *args[1:]) == (
            "full.melo has format 99, this meloedit reads format 4: upgrade meloedit"
        )


def test_a_store_that_another_process_is_writing(full):
    before = full.read_bytes()
    with Store.open(full).writing():
        for args in (["rm", "book"], ["edit", "-p", "x", "-t", "y"], ["calibrate"], ["rollback", 2]):
            said = bad(args[0], full, *args[1:])
            assert said == "full.melo is being written by another process; try again when it is done"
        assert good("ask", full, "What is the capital of Peru?") == "Lima\n"  # readers are not kept out
    assert full.read_bytes() == before
