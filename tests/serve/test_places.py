"""Places in the running batch: who waits, who leaves early, who is turned away."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serve_helpers import MODEL, PATIENCE, serving
from support.prompts import FACTS, OTHERS


@pytest.fixture(scope="module")
def small(make_editor, make_model, tmp_path_factory):
    """A server that makes two answers at once, and whose model takes long prompts and answers."""
    model = make_model("llama", max_position_embeddings=4096)
    editor = make_editor(edits=FACTS[:1], model=model, store=tmp_path_factory.mktemp("small") / "a.melo")
    with serving(editor, max_batch=2, max_waiting=2, max_tokens=3000, timeout=300.0) as running:
        yield running
    editor.unload()


@pytest.fixture(scope="module")
def long(small):
    """A prompt to which the model has much to say."""
    for text in (*OTHERS, *(f"Tell me about number {i}" for i in range(50))):
        if small.ask(text, max_tokens=400).json()["usage"]["completion_tokens"] == 400:
            return text
    raise AssertionError("every answer is short")


def body(text, tokens):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True}


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_goes_away_frees_its_place(small, long):
    model = small.service.model
    with small.http.stream("POST", "/v1/chat/completions", json=body(long, 3000)) as stream:
        next(stream.iter_lines())
        wait_until(lambda: model.running == 1)
    wait_until(lambda: model.running == 0)
    # the same for one that waits for a whole answer
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        content = json.dumps(body(long, 3000) | {"stream": False}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        wait_until(lambda: model.running == 1)
    wait_until(lambda: model.running == 0)


def test_a_full_queue_is_429(small):
    model, go_on = small.service.model, threading.Event()
    held = model.call(lambda: go_on.wait(PATIENCE))
    try:
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(small.ask, FACTS[0].prompt, max_tokens=4) for _ in range(2)]
            wait_until(lambda: model.waiting == 2)
            refused = small.ask(FACTS[0].prompt)
            assert "wait already" in small.bad(refused, 429) and refused.headers["retry-after"] == "2"
            go_on.set()
            answers = [one.result().json()["choices"][0]["message"]["content"] for one in waiting]
    finally:
        go_on.set()
    assert held.result() and answers == ["Jorge", "Jorge"]


def test_an_answer_that_takes_too_long_is_given_up(make_editor, make_model, long):
    model = make_model("llama", max_position_embeddings=4096)
    editor = make_editor(model=model)
    with serving(editor, max_tokens=3000, timeout=0.5) as served:
        assert "took longer" in served.bad(served.ask(long, max_tokens=3000), 504)
        stream = served.ask(long, max_tokens=3000, stream=True)
        assert stream.status_code == 200 and '"code": "timeout"' in stream.text and "[DONE]" not in stream.text
        wait_until(lambda: served.service.model.running == 0)
    editor.unload()


def test_an_edit_made_in_the_middle_of_an_answer_does_not_change_it(small, long):
    alone = small.ask(long, max_tokens=60).json()["choices"][0]["message"]["content"]
    new = {"id": "play", "prompt": long, "target": "in the park"}
    text, stored = "", False
    with small.http.stream("POST", "/v1/chat/completions", json=body(long, 3000)) as stream:
        for line in stream.iter_lines():
            if stored and len(text) >= len(alone):
                break
            if not line:
                continue
            chunk = json.loads(line.removeprefix("data: "))
            text += chunk["choices"][0]["delta"].get("content", "")
            if not stored:
                assert chunk["melo"]["edit"] is None
                stored = small.edit(new)[0]["status"] == "stored"
    assert text.startswith(alone)
    assert small.ask(long).json()["melo"]["edit"] == "play"
    small.good(small.http.delete("/v1/edits/play"))
