"""The proxy before another server: what it sends, what it lets through, what it says when something is wrong."""

import json
import time

import httpx
import pytest
from serve_helpers import MODEL, PATIENCE, Served, running
from starlette.responses import JSONResponse, StreamingResponse
from support.prompts import BOOK, CAPITAL, FACTS, OTHERS
from upstream_helpers import Scripted, chunk, whole

from meloedit.errors import MeloEditError, StoreError
from meloedit.serve import proxy
from meloedit.serve.proxy.upstream import Upstream
from meloedit.serve.settings import ServeSettings
from meloedit.serve.tokens import Tokens

pytest_plugins = ["serve_fixtures"]


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def front(make_editor, tmp_path_factory):
    """The proxy before a server that does what a test says; edits of the store become adapters there."""
    folder = tmp_path_factory.mktemp("front")
    editor = make_editor(edits=FACTS[:1], store=folder / "a.melo", reach="all", answer_positions=0)
    behind = Scripted()
    with running(behind.app, ServeSettings()) as port:
        upstream = Upstream(f"http://127.0.0.1:{port}", token="secret")
        limits = {"max_batch": 1, "max_waiting": 1, "max_tokens": 32, "max_prompt": 100}
        made = proxy.app(editor, upstream, adapters=str(folder / "adapters"), **limits)
        with running(made, ServeSettings()) as own:
            served = Served(editor, made, ServeSettings(**limits), own)
            served.behind, served.folder = behind, folder / "adapters"
            wait_until(lambda: behind.loaded)
            yield served
            served.http.close()
    editor.unload()


@pytest.fixture(autouse=True)
def _quiet(request):
    if "front" in request.fixturenames:
        behind = request.getfixturevalue("front").behind
        behind.reply, behind.bodies, behind.headers = whole(), [], []


def test_the_adapter_of_the_edit_stands_in_the_request(front):
    (name,) = [path.name for path in front.folder.glob("melo-*")]
    answer = front.good(front.ask(BOOK.prompt, top_k=5, made_up={"a": 1}))
    assert answer["model"] == MODEL and answer["melo"]["edit"] == "book"
    front.good(front.ask(OTHERS[0], temperature=0.5))
    front.good(front.ask(BOOK.prompt, model=f"{MODEL}:base", max_tokens=None))
    sent = front.behind.bodies
    assert [body["model"] for body in sent] == [name, "base", "base"]
    assert [body["temperature"] for body in sent] == [0.0, 0.5, 0.0]  # greedily, as edits are checked
    assert [body["max_tokens"] for body in sent] == [8, 8, 32]
    assert sent[0]["top_k"] == 5 and sent[0]["made_up"] == {"a": 1}
    assert {headers["authorization"] for headers in front.behind.headers} == {"Bearer secret"}


@pytest.mark.slow
def test_texts_of_several_edits_are_one_answer(proxied):
    texts = [OTHERS[0], FACTS[1].prompt, FACTS[0].prompt, OTHERS[1]]
    body = {"model": MODEL, "prompt": texts, "max_tokens": 4, "n": 2}
    answer = proxied.good(proxied.post("/v1/completions", body))
    assert [choice["index"] for choice in answer["choices"]] == list(range(8))
    alone = [proxied.editor.ask(text, form="raw", max_new_tokens=4)[0] for text in texts]
    assert [choice["text"].strip() for choice in answer["choices"]] == [one.text for one in alone for _ in range(2)]
    assert [choice["melo"]["edit"] for choice in answer["choices"]] == [
        one.route.edit for one in alone for _ in range(2)
    ]
    assert answer["usage"]["completion_tokens"] == 2 * sum(one.tokens for one in alone)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    lines = [line for line in proxied.post("/v1/completions", body | usage).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]" and lines.count(lines[-1]) == 1
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert len({one["id"] for one in chunks}) == 1 and {one["model"] for one in chunks} == {MODEL}
    assert chunks[-1]["usage"] == answer["usage"] and not any(one.get("usage") for one in chunks[:-1])
    said = [""] * 8
    for choice in (choice for one in chunks for choice in one["choices"]):
        said[choice["index"]] += choice["text"]
    assert said == [choice["text"] for choice in answer["choices"]]


@pytest.mark.parametrize(
    ("reply", "status", "message"),
    [
        (JSONResponse({"error": {"message": "too hot", "type": "x", "code": "hot"}}, 400), 400, "too hot"),
        (JSONResponse({"object": "error", "message": "old shape", "code": 422}, 422), 422, "old shape"),
        (JSONResponse({"detail": "no such field"}, 422), 422, "no such field"),
        (JSONResponse({"error": {"message": "busy"}}, 429, {"Retry-After": "7"}), 429, "busy"),
        (StreamingResponse(iter(["<html>"]), 503), 503, "refused with status 503"),
        (JSONResponse({"hello": 1}), 502, "none of OpenAI's API"),
    ],
)
def test_errors_of_the_other_server_come_through(front, reply, status, message):
    front.behind.reply = reply
    for stream in (False, True)[: 1 if status == 502 else 2]:
        refused = front.ask(OTHERS[0], stream=stream)
        assert message in front.bad(refused, status)
        assert refused.headers.get("retry-after") == ("7" if status == 429 else None)


def test_an_edit_without_an_adapter_is_never_answered_by_the_base_model(front):
    front.behind.reply = JSONResponse({"error": {"message": "The model `melo-x` does not exist."}}, 404)
    refused = front.ask(BOOK.prompt)
    assert "edit 'book' answers this, and the upstream server has no adapter melo-" in front.bad(refused, 503)
    assert refused.json()["error"]["code"] == "adapter_missing"
    front.bad(front.ask(OTHERS[0]), 404)  # the base model is missing: that is another fault


def test_what_would_be_another_prompt_is_refused(front):
    for field in ({"chat_template": "x"}, {"chat_template_kwargs": {"enable_thinking": False}}):
        assert "would change the prompt" in front.bad(front.ask(OTHERS[0], **field), 400)
    turns = [{"role": "user", "content": BOOK.prompt}, {"role": "assistant", "content": "It was"}]
    assert "begun" in front.bad(front.ask("", messages=turns), 400)
    assert "this server takes 100" in front.bad(front.ask("word " * 50), 400)
    front.bad(front.post("/v1/completions", {"model": MODEL, "prompt": [[1, 2]]}), 400)
    assert front.behind.bodies == []


def test_a_stream_that_breaks_off_says_so(front):
    async def half():
        yield f"data: {json.dumps(chunk('one '))}\n\n"
        raise OSError("gone")

    front.behind.reply = StreamingResponse(half(), media_type="text/event-stream")
    lines = [line for line in front.ask(OTHERS[0], stream=True).text.splitlines() if line]
    assert len(lines) == 2 and "broke the answer off" in lines[-1] and "Traceback" not in "".join(lines)


def test_a_client_that_leaves_frees_its_place_and_the_other_server(front):
    service = front.service
    front.behind.reply, before = front.behind.endless, front.behind.left
    body = {"model": MODEL, "messages": [{"role": "user", "content": OTHERS[0]}], "stream": True}
    with front.http.stream("POST", "/v1/chat/completions", json=body) as first:
        one = first.iter_lines()  # kept: without it the connection would be closed
        next(one)
        with front.http.stream("POST", "/v1/chat/completions", json=body) as second:
            two = second.iter_lines()
            next(two)
            assert service.under_way == 2
            assert "are under way" in front.bad(front.ask(OTHERS[0]), 429)
    wait_until(lambda: service.under_way == 0 and front.behind.left == before + 2)
    front.behind.reply = whole()
    front.good(front.ask(OTHERS[0]))


@pytest.mark.slow
def test_edits_over_rest_become_adapters_of_the_other_server(front):
    behind, before = front.behind, set(front.behind.adapters)
    assert front.edit(CAPITAL.to_dict())[0]["status"] == "stored"
    wait_until(lambda: len(behind.adapters) == 2)
    (new,) = set(behind.adapters) - before
    assert behind.loaded[-1] == {"lora_name": new, "lora_path": str(front.folder / new)}
    assert (front.folder / new / "adapter_model.safetensors").exists()
    front.good(front.ask(CAPITAL.prompt))
    assert behind.bodies[-1]["model"] == new
    wait_until(lambda: front.service.missing() == [])  # the proxy looks at the list behind the loading
    front.good(front.http.delete(f"/v1/edits/{CAPITAL.id}"))
    wait_until(lambda: set(behind.adapters) == before)
    assert front.good(front.ask(CAPITAL.prompt))["melo"]["edit"] is None


def test_tokens_are_the_proxys_own(front):
    made = proxy.app(front.editor, front.service.upstream, Tokens(["ask ann 0123456789abcdef"]))
    guard = made.state.meloedit_service
    assert len(guard.tokens) == 1 and guard.tokens.caller("0123456789abcdef").name == "ann"


def test_a_server_that_is_not_there(make_editor, front, tmp_path):
    with pytest.raises(MeloEditError, match="is no address of a server"):
        Upstream("localhost:8000")
    with pytest.raises(MeloEditError, match=r"the upstream server http://127.0.0.1:9 cannot be reached \("):
        Upstream("http://127.0.0.1:9").look()
    assert front.good(front.get("/ready")) == {"status": "ready"}
    front.service.upstream.trouble = "gone"
    assert front.get("/ready").status_code == 503
    front.service.upstream.look()
    assert front.get("/ready").status_code == 200
    refused = Upstream("http://127.0.0.1:9").failed(httpx.ConnectError("refused"))
    assert (refused.status, refused.code) == (502, "upstream")


def test_a_store_whose_blocks_are_no_adapters_is_refused(make_editor):
    editor = make_editor()
    with pytest.raises(StoreError, match="--for-export"):
        proxy.app(editor, Upstream("http://127.0.0.1:9"))
    editor.unload()
