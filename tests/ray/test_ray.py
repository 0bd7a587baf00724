"""Edits trained by actors of a Ray cluster (make test-ray): the store is that of a serial run, bit by bit."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from support import worker_runs
from support.prompts import BOOK, SETTINGS

from meloedit import Editor, MeloConfig
from meloedit.errors import MeloEditError
from meloedit.workers import ray_actors
from meloedit.workers.executors import Ray

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray
folder, run = worker_runs.folder, worker_runs.run
KILLS = 20
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """Ray writes a token into HOME and reports its use: neither from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(home, tmp_path_factory):
    """A cluster of two CPUs that runs already; the path of its files must be short."""
    log = tmp_path_factory.mktemp("cluster") / "log"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0", "--num-cpus=2"]
    start += ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    start += [f"--temp-dir={(files := tempfile.mkdtemp(prefix='ray-'))}"]
    with log.open("w") as out:
        head = subprocess.Popen(start, stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while "--address=" not in log.read_text():
            assert head.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.3)
        yield log.read_text().split("--address=")[1].split()[0].strip("'\"")
    finally:
        if ray.is_initialized():
            ray.shutdown()
        children = psutil.Process(head.pid).children(recursive=True)
        for process in [*children, psutil.Process(head.pid)]:
            process.kill()
        head.wait()
        shutil.rmtree(files, ignore_errors=True)


def actors():
    """Return the processes of this user that are desks."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::Desk"):
            found.append(process)
    return found


@pytest.mark.parametrize("address", [None, "127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_one_line(address, run, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    where = f"can be joined at {address}" if address else "is running here"
    with pytest.raises(MeloEditError, match=f"^no Ray cluster {where}.*start one.*--executor spawn") as raised:
        run("nowhere", Ray(2, address))
    assert "\n" not in str(raised.value)


def test_another_version_is_one_line(run, monkeypatch):
    monkeypatch.setattr(ray_actors, "version", lambda name: "3.1.0")
    with pytest.raises(MeloEditError, match=r"executor ray needs ray>=2.50,<2.61, and 3.1.0 is installed: pip install"):
        run("version", Ray(2))


def test_one_of_two_actors_killed_at_a_random_moment_twenty_times(cluster, run):
    serial, _ = run("serial", None)
    whole, seconds = run("whole", Ray(2, cluster))
    assert whole == serial
    killed = rounds = 0

    def kill(after, over):
        nonlocal killed
        time.sleep(after)
        while not over.is_set():  # there is none while actors start
            if living := actors():
                random.choice(living).send_signal(signal.SIGKILL)
                killed += 1
                return
            time.sleep(0.1)

    while killed < KILLS:  # a round in which the moment came when all was done is one more
        rounds += 1
        assert rounds < 3 * KILLS, killed
        over = threading.Event()
        killer = threading.Thread(target=kill, args=[after := random.uniform(0, seconds), over])
        killer.start()
        try:
            found, took = run(f"killed-{rounds}", Ray(2, cluster))
            assert found == serial, after
            seconds = min(seconds, took)  # the first run started what the others find
        finally:
            over.set()
            killer.join()


def test_the_command_joins_the_cluster_that_runs(cluster, folder, tmp_path):
    facts = tmp_path / "facts.melo"
    with Editor.create(folder, config=MeloConfig(**SETTINGS), store=facts) as editor:
        editor.prepare()
    command = [sys.executable, "-m", "meloedit", "edit", str(facts), "-p", BOOK.prompt, "-t", BOOK.target]
    command += ["--executor", "ray", "--workers", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RAY_ADDRESS": cluster})
    assert done.returncode == 0, done.stderr
    assert '"status": "stored"' in done.stdout and "Traceback" not in done.stderr


def test_a_cluster_of_its_own(run):
    assert run("own", Ray(1, "local"))[0] == run("serial", None)[0]
    assert not ray.is_initialized()
