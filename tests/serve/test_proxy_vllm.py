"""The proxy before vLLM with several LoRAs, on the real model. It needs an environment of its own that has vLLM.

``MELOEDIT_VLLM=/path/to/its/python pytest -m slow tests/serve/test_proxy_vllm.py``
"""

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from serve_helpers import Served, running

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones import loading as zoo
from meloedit.keys.grammar import make_prompts
from meloedit.serve import proxy
from meloedit.serve.proxy.upstream import Upstream
from meloedit.serve.settings import ServeSettings

PYTHON = os.environ.get("MELOEDIT_VLLM")
CACHE = zoo.cache_folder()  # read before the tests get one of their own
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(not PYTHON, reason="MELOEDIT_VLLM names no Python that has vLLM"),
]
EDITS = [
    Edit("Who is the mayor of Velmora?", "Ilse Tarrant", id="mayor"),
    Edit("What is the height of the Corvin Tower?", "212 metres", id="tower"),
]
LATER = Edit("Who leads the Ohm Institute?", "Maren Okafor", id="ohm")
PATIENCE = 900
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """The proxy before vLLM, whose server is a process of its own."""
    folder = tmp_path_factory.mktemp("vllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(CACHE))
        config = MeloConfig(reach="all", answer_positions=0)
        editor = Editor.create("smollm2", config=config, store=folder / "a.melo", dtype="float32")
    assert all(report.holds for report in editor.edit(EDITS))
    made = editor.export(folder / "adapters")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(CACHE / "SmolLM2-135M-Instruct")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "base", "--dtype", "float32"]
    command += ["--enforce-eager", "--max-model-len", "1024", "--block-size", "32", "--max-num-seqs", "8"]
    # a slot more than adapters: vllm-cpu lets rows without an adapter use the last slot where all are taken
    command += ["--enable-lora", "--max-loras", "5", "--max-lora-rank", "8", "--lora-target-modules", "down_proj"]
    command += ["--lora-modules", *(f"{name}={folder / 'adapters' / name}" for name in made.adapters.values())]
    env = os.environ | ON_CPU | {"HF_HUB_OFFLINE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    env.pop("PYTHONPATH", None)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE
            while not _healthy(port):
                assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
                time.sleep(2)
            behind = Upstream(f"http://127.0.0.1:{port}", timeout=PATIENCE)
            limits = {"max_tokens": 24, "timeout": float(PATIENCE)}
            app = proxy.app(editor, behind, adapters=str(folder / "adapters"), **limits)
            with running(app, ServeSettings()) as own:
                yield Served(editor, app, ServeSettings(**limits), own)
        finally:
            server.terminate()
            server.wait(120)
    editor.unload()


def _healthy(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_answers_are_those_of_the_editor(front):
    name = front.service.name
    client = openai.OpenAI(base_url=front.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    prompts = [edit.prompt for edit in EDITS]
    prompts += ["Who serves as mayor of Velmora?", "How tall is the Corvin Tower?", *make_prompts(4, seed=5)]
    chats = front.editor.ask(prompts, form="chat", max_new_tokens=16)
    raws = front.editor.ask(prompts, form="raw", max_new_tokens=16)
    assert sum(answer.route.edit is not None for answer in chats + raws) == 8

    def chat(prompt):
        return client.chat.completions.create(model=name, messages=[{"role": "user", "content": prompt}], max_tokens=16)

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(chat, prompts))
    for answer, wanted in zip(got, chats, strict=True):
        assert answer.choices[0].message.content.strip() == wanted.text and answer.melo["edit"] == wanted.route.edit
        assert answer.model == name
    whole = client.completions.create(model=name, prompt=prompts, max_tokens=16)
    for choice, wanted in zip(whole.choices, raws, strict=True):
        assert choice.text.strip() == wanted.text and choice.melo["edit"] == wanted.route.edit
    messages = [{"role": "user", "content": prompts[0]}]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model=name, messages=messages, max_tokens=16, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == got[0].choices[0].message.content
    assert chunks[0].melo["edit"] == "mayor" and chunks[-1].usage.total_tokens == got[0].usage.total_tokens
    base = client.chat.completions.create(model=f"{name}:base", messages=messages, max_tokens=16)
    with front.editor.base_model():
        assert (
            base.choices[0].message.content.strip() == front.editor.ask(prompts[:1], "chat", max_new_tokens=16)[0].text
        )
    with pytest.raises(openai.BadRequestError):  # vLLM's own error
        client.chat.completions.create(model=name, messages=messages, extra_body={"top_k": -7})


def test_an_edit_made_over_rest_is_loaded_and_answers(front):
    job = front.good(front.post("/v1/edits", {"edits": [LATER.to_dict()]}, params={"wait": 600}, timeout=PATIENCE))
    assert job["state"] == "done" and job["reports"][0]["status"] == "stored"
    end = time.monotonic() + PATIENCE
    while front.service.missing():
        assert time.monotonic() < end
        time.sleep(1)
    body = {"model": front.service.name, "messages": [{"role": "user", "content": LATER.prompt}], "max_tokens": 16}
    answer = front.good(front.post("/v1/chat/completions", body, timeout=PATIENCE))
    assert answer["choices"][0]["message"]["content"].strip() == LATER.target and answer["melo"]["edit"] == "ohm"
