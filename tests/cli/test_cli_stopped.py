"""Commands that are interrupted, killed, or cannot write: what they say, and what the store then has."""

import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from cli_helpers import MELOEDIT, SETTINGS, good, good_json, program, run, write
from support.store_cases import finished

from meloedit.store import Store

pytest_plugins = ["cli_fixtures"]


def test_ctrl_c_after_the_change_says_that_it_is_stored(full, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "diff", stop)
        result = run("rm", full, "book")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted: the change is stored: full.melo is at revision 4\n"
    with monkeypatch.context() as patch:
        patch.setattr("meloedit.cli.commands.model.show_reports", stop)
        result = run("edit", full, "-p", "Who leads Ohm?", "-t", "Ada")
    assert result.stderr.splitlines()[-1] == "interrupted: 1 of 1 edit stored in this run"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", stop)
        assert run("rm", full, "legs").stderr == "interrupted: nothing was changed\n"


def test_ctrl_c_before_the_command_begins(full):
    start = "import meloedit.cli.app as c\ndef stop(**_): raise KeyboardInterrupt\nc.app = stop\nc.main()"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


STOP_AT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["meloedit", *{args!r}]
from meloedit.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["typer", "meloedit.cli.app", "meloedit.store.store", "rich.table"])
def test_ctrl_c_while_a_command_starts_is_one_line(name, full):
    code = STOP_AT.format(name=name, args=["ls", str(full)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in ("interrupted: nothing was changed\n", "interrupted\n")


def test_a_full_output_says_what_is_stored(full):
    for args, said in [
        (["edit", full, "-p", "Who leads Ohm?", "-t", "Ada"], "1 of 1 edit stored in this run; then: "),
        (["rm", full, "book"], "the change is stored: full.melo is at revision 5; then: "),
    ]:
        with open("/dev/full", "w") as out, open("err", "w") as err, program(*args, out=out, err=err) as pid:
            assert finished(pid) == 1
        assert Path("err").read_text().splitlines()[-1] == f"error: {said}[Errno 28] No space left on device"


def test_closed_streams(full):
    def shell(command):
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True)

    program = f"{sys.executable} -m meloedit"
    for redirected in (">&-", "2>&-", ">&- 2>&- <&-"):
        done = shell(f"{program} ls {full} {redirected}")
        assert (done.returncode, done.stderr) == (0, ""), redirected
    done = shell(f"{program} edit {full} - <&-")
    assert (done.returncode, done.stderr) == (1, "error: standard input holds no edits\n")


@pytest.fixture
def slow(folder, tmp_path, monkeypatch):
    """A store that commits edits one by one, and a file of many."""
    monkeypatch.chdir(tmp_path)
    good("init", "slow.melo", "--model", folder, *SETTINGS, "--set", "train_batch_size=1")
    names = ["north", "south", "east", "west", "upper"]
    rows = [{"id": f"{a}-{b}", "prompt": f"Who leads the {a} {b} town?", "target": b} for a in names for b in names[:2]]
    write(Path("many.jsonl"), *rows)
    return Path("slow.melo"), len(rows)


def wait_with_the_last(total):
    """Let this process not store its last edit before a signal reaches it, however slow the test is."""
    put, waits = Store.put, iter([False] * (total - 1))

    def put_or_wait(*args, **kwargs):
        if next(waits, True):
            signal.pause()
        return put(*args, **kwargs)

    Store.put = put_or_wait


def stop_midway(path, number, total):
    """Start editing, and send a signal once two edits are stored.

    Return the exit code, what was printed on stdout and stderr, and how many edits are stored.
    """
    files = {"out": open("out", "w"), "err": open("err", "w")}
    first = partial(wait_with_the_last, total)
    with files["out"], files["err"], program("edit", path, "many.jsonl", first=first, **files) as pid:
        while len(Store.open(path).edits()) < 2:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), Path("err").read_text()
            time.sleep(0.05)
        os.kill(pid, number)
        code = finished(pid)
    return code, Path("out").read_text(), Path("err").read_text(), len(Store.open(path).edits())


def test_ctrl_c_keeps_what_is_finished_and_a_second_run_skips_it(slow):
    path, total = slow
    code, out, err, kept = stop_midway(path, signal.SIGINT, total)
    assert (code, out) == (130, "") and 2 <= kept < total
    assert err.splitlines()[-1] == (
        f"interrupted: {kept} of {total} edits stored in this run; run the same command again for the rest"
    )
    assert "Traceback" not in err
    counts = [report["status"] for report in good_json("edit", path, "many.jsonl")["reports"]]
    assert (counts.count("skipped"), counts.count("stored")) == (kept, total - kept)
    assert Store.open(path).verify() == []


def test_kill_leaves_a_sound_store(slow):
    path, total = slow
    code, _, _, kept = stop_midway(path, signal.SIGKILL, total)
    assert code == -signal.SIGKILL and 2 <= kept < total
    assert Store.open(path).verify() == []
    good("rm", path, good_json("ls", path)[0]["id"])  # the lock went with the process
    assert len(good_json("ls", path)) == kept - 1


def test_a_full_disk_keeps_what_was_stored(slow):
    path, total = slow
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write stands in for the disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20_000, most))
    try:
        done = run("edit", path, "many.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    kept = len(Store.open(path).edits())
    said = f"; {kept} of {total} edits stored in this run; run the same command again for the rest"
    assert (done.exit_code, done.stdout) == (1, "") and 0 < kept < total
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {path} cannot ") and last.endswith(said), done.stderr
    assert Store.open(path).verify() == []
    assert good("edit", path, "many.jsonl").splitlines()[-1].startswith(f"{total - kept} stored, {kept} skipped in ")


def test_a_closed_pipe_and_a_full_output_end_quietly(full):
    for args in (["ls", "--json"], ["ls"], ["history"]):
        read, write_end = os.pipe()
        os.close(read)
        done = subprocess.run([*MELOEDIT, args[0], str(full), *args[1:]], stdout=write_end, stderr=subprocess.PIPE)
        os.close(write_end)
        assert (done.returncode, done.stderr) == (1, b"")
    with open("/dev/full", "w") as out:
        done = subprocess.run([*MELOEDIT, "ls", str(full)], stdout=out, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")
