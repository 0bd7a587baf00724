"""kill -9 of the server in the middle of edit jobs: what was stored stays, and a repeated request does the rest."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import openai
import pytest
from serve_helpers import PATIENCE
from support.prompts import FACTS
from support.store_cases import child, posix

from meloedit.serve import app
from meloedit.serve.server import bind, make_server
from meloedit.serve.settings import ServeSettings
from meloedit.store import Store

pytest_plugins = ["serve_fixtures"]


def reopened(editor):
    """Let the editor follow what a killed process stored."""
    editor.store = Store.open(editor.store.path)
    editor.engine.follow(editor.store)
    return editor.store


@contextmanager
def forked_server(editor):
    """A server in a process of its own; give its process number and a client, once it is ready."""
    listening = bind("127.0.0.1", 0)
    listening.listen(64)

    def serve():
        make_server(app(editor), ServeSettings()).run(sockets=[listening])

    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with child(serve) as pid, listening, httpx.Client(base_url=address, timeout=PATIENCE) as http:
        assert http.get("/ready").status_code == 200
        yield pid, http


def ids(http):
    return {one["id"] for one in http.get("/v1/edits", params={"limit": 1000}).json()["data"]}


@posix
@pytest.mark.parametrize("kills", [1, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_server_loses_nothing_that_was_stored(make_editor, tmp_path, kills):
    editor = make_editor(edits=FACTS[:1], store=tmp_path / "a.melo", train_batch_size=2)
    chance, had, seconds, partly = random.Random(3), {"book"}, 1.0, 0
    for kill in range(kills):
        house = [f"{kill}-{i}" for i in range(8)]
        many = [{"prompt": f"What is the number of house {h}?", "target": "nine", "id": h} for h in house]
        body = {"edits": many, "keep_both": True}
        with forked_server(editor) as (pid, http):
            assert ids(http) == had
            assert http.post("/v1/edits", json=body).status_code == 202
            time.sleep(chance.random() * seconds)
            told = ids(http)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        store = reopened(editor)
        assert store.verify() == []
        had = {stored.edit.id for stored in store.edits()}
        assert told <= had
        partly += 0 < len(had & set(house)) < 8
        with forked_server(editor) as (pid, http):  # ready again; the repeated request does the rest
            began = time.monotonic()
            job = http.post("/v1/edits", json=body, params={"wait": PATIENCE}).json()
            left = 8 - len(had & set(house))
            seconds = (time.monotonic() - began) * 8 / left if left else seconds
            statuses = [report["status"] for report in job["reports"]]
            assert job["state"] == "done" and sorted(statuses) == ["skipped"] * (8 - left) + ["stored"] * left
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        had = {stored.edit.id for stored in reopened(editor).edits()}
        assert set(house) <= had
        editor.remove(sorted(had - {"book"}))
        had = {"book"}
    assert partly or kills < 20
    editor.unload()


@contextmanager
def command(*args):
    """Run ``meloedit serve``; give the process and its address."""
    starts = [sys.executable, "-m", "meloedit", "serve", *args, "--port", "0"]
    process = subprocess.Popen(starts, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("serving "):
                break
        assert lines and lines[-1].startswith(f"serving {args[0]} at http://127.0.0.1:"), lines
        yield process, lines[-1].split(" at ")[1].split(" ")[0]
    finally:
        process.kill()
        process.communicate()


@posix
def test_the_command_serves_until_it_is_told_to_stop(store_file):
    with command(str(store_file), "--audit", "audit.log") as (process, address):
        client = openai.OpenAI(base_url=address + "/v1", api_key="none", timeout=PATIENCE, max_retries=5)
        (model, _) = client.models.list()
        asked = [{"role": "user", "content": FACTS[0].prompt}]
        answer = client.chat.completions.create(model=model.id, messages=asked, max_tokens=5)
        assert answer.choices[0].message.content == "Jorge"
        assert httpx.patch(address + "/v1/edits/book", json={"enabled": False}, timeout=PATIENCE).status_code == 200
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM) and "Traceback" not in rest, rest
    assert '"action": "disable"' in store_file.with_name("audit.log").read_text()
    assert Store.open(store_file).get("book").enabled is False
