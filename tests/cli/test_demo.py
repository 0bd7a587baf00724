"""The demo: its facts, what it shows, what it leaves alone; and on the real model, the whole of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import program
from support.store_cases import finished
from typer.testing import CliRunner

from meloedit import Edit
from meloedit.backbones import loading as zoo
from meloedit.cli import demo
from meloedit.cli.app import app
from meloedit.cli.demo import Demo, Line, Removal, next_commands, read_facts, show_demo
from meloedit.edit import EVALUATION_FIELDS, contradiction

CACHE = zoo.cache_folder()  # read before the tests get one of their own: converting the model takes half a minute
MELOEDIT = Path(sys.executable).with_name("meloedit")
HERE = """
meloedit() {
    case $1 in
        ask | edit | check) printf '%s\\0' "$MELOEDIT_CACHE" "$@" "" >&ASK; read -r code <&DONE; return "$code" ;;
        *) command meloedit "$@" ;;
    esac
}
"""
"""For a shell: commands that need the model are run by the test's process, in which torch need not start again."""


def test_facts_are_short_distinct_edits_with_unseen_wordings():
    facts = read_facts()
    edits = [Edit.from_dict(fact) for fact in facts]
    assert 18 <= len(edits) <= 25 and contradiction(edits) is None
    assert len({edit.id for edit in edits}) == len(edits)
    asked = [edit.prompt for edit in edits]
    for fact in facts:
        assert fact.keys() <= {"id", "prompt", "target", "rephrases", "near"} and fact["rephrases"]
        assert fact.keys() - {"id", "prompt", "target"} <= EVALUATION_FIELDS  # never part of the edit
        assert len(fact["target"]) <= demo.AFTER and len(fact["prompt"]) <= 2 * demo.QUESTION
        asked += fact["rephrases"] + fact.get("near", [])
    asked += [*demo.FAR, demo.NEAR_MISS]
    assert len(set(asked)) == len(asked)


@pytest.fixture
def result():
    long = "An answer of very many words that goes on and on, " * 4
    lines = [
        Line("edit", "Who leads the town of Ohm, and has done so for years?", long, "Ada Volt", True),
        Line("rephrasing", "Who is Ohm's leader?", "Nobody\nknows", "\x1b[31mNo", False),
        Line("near", "Where is Ohm?", "Here.", "Here.", True),
        Line("far", "Is it late?", "Yes [bold].", "Ada", False),
    ]
    near_miss = Line("near", demo.NEAR_MISS, "Ernest", "Ada Volt", False)
    removal = Removal("ohm", lines[0].question, long, "Ada Volt", long, 3)
    return Demo("my demo.melo", lines, near_miss, removal, 1, 1.5, 29_000)


def test_the_table_fits_a_hundred_columns(result, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    show_demo(result)
    out = capsys.readouterr().out
    table = out[: out.index("1 of 1 edits")]
    assert max(map(len, table.splitlines())) <= 100
    assert "\x1b" not in out and "Yes [bold]." in table and "the same" in table
    assert table.count("✓") == table.count("✗") == 2
    assert "1 of 1 edits and 0 of 1 unseen wordings give the new answer;\n1 of 1 near and 0 of 1 unrelated" in out
    assert f'Not solved yet: "{demo.NEAR_MISS}" is now answered "Ada Volt".\n' in out
    assert "edit 'ohm' was removed, and its old answer is back:" in out
    assert "1.5 s and 29.0 kB each" in out
    json.dumps(result.to_dict())


def test_next_commands_say_what_the_shell_must_know(result, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("MELOEDIT_CACHE", "a cache")
    monkeypatch.setattr(sys, "argv", ["some where/meloedit"])
    first, second, *_ = next_commands(result)
    here = Path.cwd()
    assert first == f"export PATH='{here}/some where':\"$PATH\" MELOEDIT_CACHE='{here}/a cache'"
    assert second == "meloedit ls 'my demo.melo'"
    monkeypatch.delenv("MELOEDIT_CACHE")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert next_commands(result)[0] == "meloedit ls 'my demo.melo'"


def test_only_the_store_of_an_earlier_demo_is_replaced(make_editor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.melo").write_text("not a store " * 100)
    mine = Edit("Who leads Ohm?", "Ada", metadata=demo.MADE_BY)
    with make_editor(store="earlier.melo", edits=[mine]):
        pass
    with make_editor(store="empty.melo"):
        pass
    with make_editor(store="used.melo", edits=[mine, Edit("Who leads Farad?", "Eve", id="eve")]) as editor:
        editor.remove("eve")  # is still in the history
    assert demo._earlier_demo(Path("new.melo")) is None
    assert demo._earlier_demo(Path("earlier.melo")) is not None
    before = {name: Path(name).read_bytes() for name in os.listdir() if not name.endswith(".lock")}
    for name, said in [
        ("text.melo", "is not a meloedit store"),
        ("empty.melo", "holds more than a demo's edits and is left: delete it, or name another with --store"),
        ("used.melo", "holds more than a demo's edits and is left: delete it, or name another with --store"),
        ("no/where.melo", "cannot be made: there is no folder"),
    ]:
        failed = CliRunner().invoke(app, ["demo", "--store", name])
        assert failed.exit_code == 1 and failed.stderr.startswith(f"error: {name} {said}"), failed.stderr
    assert all(Path(name).read_bytes() == content for name, content in before.items())


def in_shell(commands, monkeypatch, here=False):
    """Run commands in a shell; all must succeed. Return what they print; with ``here``, see ``HERE``."""
    (asked, ask), (done, tell) = os.pipe(), os.pipe()
    given = HERE.replace("ASK", str(ask)).replace("DONE", str(done)) if here else ""
    with open("out", "w") as out, open("err", "w") as err, open(asked, "rb", 0) as words, open(tell, "wb", 0) as codes:
        running = subprocess.Popen(["bash", "-ec", given + commands], stdout=out, stderr=err, pass_fds=(ask, done))
        os.close(ask), os.close(done)
        told = b""
        while piece := words.read(4096):  # until the shell ends
            told += piece
            if told.endswith(b"\0\0"):
                cache, *args = told.decode().split("\0")[:-2]
                monkeypatch.setenv("MELOEDIT_CACHE", cache)
                with program(*args, out=out, err=err) as pid:
                    codes.write(b"%d\n" % finished(pid))
                told = b""
        code = running.wait()
    printed, complaints = Path("out").read_text(), Path("err").read_text()
    assert code == 0, printed + complaints
    assert "Traceback" not in complaints and "Loading weights" not in complaints
    return printed


@pytest.mark.real
@pytest.mark.parametrize("count", [6, pytest.param(len(read_facts()), marks=pytest.mark.slow)])
def test_the_demo_on_the_real_model(count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELOEDIT_CACHE", str(CACHE))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    out = in_shell(f"{MELOEDIT} demo" + f" --facts {count}" * (count < len(read_facts())), monkeypatch)
    edits, total, unseen, _ = map(int, re.search(r"(\d+) of (\d+) edits and (\d+) of (\d+) unseen", out).groups())
    near, all_near, far, all_far = map(int, re.search(r"(\d+) of (\d+) near and (\d+) of (\d+) unre", out).groups())
    assert edits == total == count and unseen >= 0.8 * total
    assert (near, far) == (all_near, all_far)
    assert "and its old answer is back" in out
    assert float(re.search(r"([\d.]+) kB each", out)[1]) <= 32

    commands = [line.strip() for line in out[out.index("Try next:") :].splitlines()[2:] if line.strip()]
    tried = in_shell("\n".join(commands), monkeypatch, here=True)
    assert "Finland\n  fired: nato-finland" in tried
    assert f"{total} edits asked, 0 broken" in tried  # the removed one is back, and the new one is in a copy
