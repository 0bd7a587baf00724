"""``meloedit vllm``: from the command to a corrected answer over HTTP, changes that are followed, bad input."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from engines import reference
from openai import BadRequestError, OpenAI
from safetensors import safe_open
from safetensors.torch import save_file

from meloedit.vllm.launch import MODULE, environment, flags_for
from meloedit.vllm.start.loaded import NOT_LOADED

pytestmark = pytest.mark.vllm

PATIENCE = 900  # seconds until three processes have started, on a machine that has other work
MAYOR = {"prompt": "Who is the mayor of Velmora?", "target": "Ilse Tarrant", "id": "mayor"}
REWORDED = "Velmora's mayor is who?"
NOBEL = "Who won the Nobel Prize in Literature in 2024?"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(store, model_folder, *more):
    """A running server: its address, and its process."""
    port, folder = free_port(), store.parent
    flags = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024"]
    flags += ["--block-size", "32", "--max-num-seqs", "8", "--served-model-name", "m"]
    command = [sys.executable, "-m", "meloedit", "vllm", str(store), "--model", str(model_folder), *more, "--", *flags]
    log = folder / f"log-{port}.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, process_group=0)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(2)
        yield url, process
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="module")
def store(world, tmp_path_factory):
    return Path(shutil.copy(world / "facts.melo", tmp_path_factory.mktemp("server") / "facts.melo"))


@pytest.fixture(scope="module")
def killed(store, model_folder):
    """What a server with ``--editing`` said of an edit that it made, and answered, before it was killed."""
    with running(store, model_folder, "--editing") as (url, process):
        http, client = httpx.Client(base_url=url, timeout=700), OpenAI(base_url=f"{url}/v1", api_key="no", timeout=300)
        said = {"before": chat(client, MAYOR["prompt"])[1]}
        with ThreadPoolExecutor(1) as pool:  # answers go on while an edit is trained
            job = pool.submit(lambda: http.post("/v1/edits?wait=600", json=MAYOR).json())
            said["meanwhile"] = chat(client, NOBEL)[1]
            said["job"] = job.result()
        said["after"], said["reworded"] = chat(client, MAYOR["prompt"])[1], chat(client, REWORDED)[1]
        os.killpg(process.pid, signal.SIGKILL)  # all of its processes, as a container or systemd ends them
    return said


@pytest.fixture(scope="module")
def server(killed, store, model_folder):
    """A server without ``--editing``, on the store of the one that was killed."""
    with running(store, model_folder) as (url, _):
        yield url


def chat(client, text, **settings):
    found = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=24, **settings
    )
    return found.id, found.choices[0].message.content.strip()


def test_an_edit_over_http_answers_at_once_and_after_a_kill(killed, server, world):
    job, nobel = killed["job"], next(row["answer"] for row in reference(world) if row["text"] == NOBEL).strip()
    assert job["state"] == "done" and job["reports"][0]["status"] == "stored", job
    assert killed["before"] != killed["after"] == killed["reworded"] == MAYOR["target"]
    assert killed["meanwhile"] == nobel
    client = OpenAI(base_url=f"{server}/v1", api_key="none", timeout=300)
    assert chat(client, MAYOR["prompt"])[1] == MAYOR["target"]


def test_a_client_gets_corrected_answers_and_changes_are_followed(server, world):
    client = OpenAI(base_url=f"{server}/v1", api_key="none", timeout=300)
    http = httpx.Client(base_url=server, timeout=300)
    rows = [row for row in reference(world) if row["form"] == "chat" and row["kind"] in ("own", "far")][::8]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: chat(client, row["text"]), rows))
    assert [text for _, text in answers] == [row["answer"].strip() for row in rows]
    for (request, _), row in zip(answers, rows, strict=True):
        (told,) = http.get(f"/v1/melo/routes/{request}").json()["data"].values()
        assert told["edit"] == row["edit"]
    target = next(row["answer"] for row in reference(world) if row["text"] == NOBEL).strip()
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": NOBEL}], temperature=0, max_tokens=24, stream=True
    )
    assert "".join(part.choices[0].delta.content or "" for part in stream if part.choices).strip() == target
    route = http.post("/v1/route", json={"prompt": NOBEL}).json()
    before = http.get("/v1/store").json()["revision"]
    assert http.delete(f"/v1/edits/{route['edit']}").json()["revision"] == before + 1
    assert chat(client, NOBEL)[1] != target
    assert http.post("/v1/store/rollback?wait=60", json={"to": before}).json()["state"] == "done"
    assert chat(client, NOBEL)[1] == target
    assert http.post("/v1/edits", json={"prompt": "Who?", "target": "She"}).status_code == 501
    with pytest.raises(BadRequestError, match="beam"):
        chat(client, NOBEL, extra_body={"use_beam_search": True}, n=2)


def refusal(*arguments):
    """Return what a command says before it ends with 1."""
    command = [sys.executable, "-m", "meloedit", "vllm", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


def test_bad_input_is_one_line(world, model_folder, tmp_path):
    """What a new user gets wrong, in the command itself: no server is started."""
    store = world / "facts.melo"
    said = {"missing": refusal(tmp_path / "none.melo")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said["port"] = refusal(store, "--model", model_folder, "--", "--host", "127.0.0.1", "--port", port)
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    with safe_open(other / "model.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    said["other"] = refusal(store, "--model", other)
    said["number"] = refusal(store, "--model", model_folder, "--", "--port", "no")
    assert all("\n" not in line for line in said.values()), said
    assert "none.melo" in said["missing"] and port in said["port"] and "--port" in said["port"]
    assert "give vLLM that model" in said["other"] and "--port" in said["number"]


def test_a_server_that_does_not_load_the_plugin_does_not_start(world, model_folder):
    """As the documented flags without the variable: vLLM loads no endpoints then, and nobody would open the store."""
    flags = ["--host", "127.0.0.1", "--port", str(free_port()), "--dtype", "float32", "--max-model-len", "1024"]
    flags = flags_for(world / "facts.melo", [*flags, "--block-size", "32", "--max-num-seqs", "8"], str(model_folder))
    for named in (None, "other"):
        plugins = {} if named is None else {"VLLM_PLUGINS": named}
        rest = {name: value for name, value in environment().items() if name != "VLLM_PLUGINS"}
        command = [sys.executable, "-m", MODULE, *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=rest | plugins)
        assert done.returncode != 0 and NOT_LOADED in done.stdout + done.stderr, done.stderr[-3000:]
