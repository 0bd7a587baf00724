"""``meloedit vllm``: from the command to a corrected answer over HTTP, and a change that is followed."""

import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from engines import reference
from openai import BadRequestError, OpenAI

pytestmark = pytest.mark.vllm

PATIENCE = 900  # seconds until three processes have started, on a machine that has other work
NOBEL = "Who won the Nobel Prize in Literature in 2024?"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def server(world, model_folder, tmp_path_factory):
    """A running server: its address, and the log."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    store = shutil.copy(world / "facts.melo", folder / "facts.melo")
    flags = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024"]
    flags += ["--block-size", "32", "--max-num-seqs", "8", "--served-model-name", "m"]
    command = [sys.executable, "-m", "meloedit", "vllm", str(store), "--model", str(model_folder), "--", *flags]
    log = folder / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(2)
        yield url
    finally:
        process.terminate()
        process.wait(120)


def chat(client, text, **settings):
    found = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=24, **settings
    )
    return found.id, found.choices[0].message.content.strip()


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
