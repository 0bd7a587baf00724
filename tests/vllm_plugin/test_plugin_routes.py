"""The edits' routes on vLLM's server, with an engine that is made up: the store changes, and the worker follows."""

import sys
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.prompts import BOOK, EDITS

from meloedit.store import Store
from meloedit.vllm.endpoints import Endpoints
from meloedit.vllm.start import checks


class Engine:
    """An engine client whose worker follows the store when it is woken."""

    def __init__(self, path, folder, **extra):
        self.path, self.revision, self.woken = path, Store.open(path).revision, 0
        self.vllm_config = SimpleNamespace(
            additional_config={checks.STORE: str(path), **extra},
            parallel_config=SimpleNamespace(worker_extension_cls=checks.WORKER),
            model_config=SimpleNamespace(
                model=folder, tokenizer=folder, tokenizer_revision=None, revision=None, trust_remote_code=False,
                hf_text_config=SimpleNamespace(eos_token_id=None), max_model_len=512,
            ),
        )  # fmt: skip

    async def generate(self, prompt, params, name):
        self.asked = prompt, params, name
        yield None

    async def collective_rpc(self, method, args=()):
        if method == "melo_wake":
            self.woken += 1
            self.revision = Store.open(self.path).revision
        if method == "melo_routes":
            told = {"edit": "book", "reason": "fired", "nearest": "book", "distance": 0.0, "threshold": 1.0}
            told |= {"score": 1.0, "least_score": 0.5, "user_turn_known": True, "revision": self.revision}
            return [{} if args[0] == "unknown" else {f"{args[0]}-x": told}]
        return [
            {
                "revision": self.revision, "edits": 4, "threshold": 1.0, "least_score": 0.5, "trouble": None,
                "requests": 0, "reasons": {}, "passes": 0, "seconds": 0.0, "states_bytes": 0,
            }
        ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(llama, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routes")
    llama.save(folder / "facts.melo")
    llama.save(folder / "more.melo")
    llama.model.save_pretrained(folder / "m")
    tokenizer.save_pretrained(folder / "m")
    return folder


@contextmanager
def serving(engine):
    """vLLM's app with the plugin, as far as it concerns the edits."""
    plugin = Endpoints()

    @asynccontextmanager
    async def lifespan(app):
        await plugin.init_state(engine, app.state, None)
        yield
        app.state.meloedit_service.stop()

    app = FastAPI(lifespan=lifespan)
    plugin.attach_router(app)
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def server(folder):
    engine = Engine(folder / "facts.melo", str(folder / "m"))
    with serving(engine) as client:
        yield client, engine


def test_a_change_returns_once_the_worker_answers_with_it(server):
    client, engine = server
    assert {one["id"] for one in client.get("/v1/edits").json()["data"]} == {edit.id for edit in EDITS}
    before = client.get("/v1/store").json()["revision"]
    changed = client.delete(f"/v1/edits/{BOOK.id}").json()
    assert changed["revision"] == before + 1 == engine.revision and engine.woken
    back = client.post("/v1/store/rollback?wait=30", json={"to": before}).json()
    assert back["state"] == "done" and client.get(f"/v1/edits/{BOOK.id}").status_code == 200
    assert client.get("/v1/melo").json()["revision"] == engine.revision == before + 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/edits", {"prompt": "Who?", "target": "She"}),
        ("/v1/edits/trial", {"edits": [{"prompt": "Who?", "target": "She"}]}),
        ("/v1/edits/book/quiet", {"prompts": ["Who?"]}),
        ("/v1/scan", {"prompts": ["Who?"]}),
        ("/v1/store/check", {}),
        ("/v1/store/map", {"prompts": ["Who?"]}),
    ],
)
def test_what_needs_a_model_is_refused_in_one_line_that_says_who_does_it(server, path, body):
    answer = server[0].post(path, json=body)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 501 and "--editing" in message and "\n" not in message, answer.text


def test_a_map_by_umap_is_refused_as_any_other(server):
    answer = server[0].get("/v1/store/map?projection=umap")  # without the extra it is that which is missing
    assert answer.status_code in (400, 501) and "\n" not in answer.json()["error"]["message"], answer.text


def test_routes_are_told_by_the_id_of_the_request(server):
    (told,) = server[0].get("/v1/melo/routes/known").json()["data"].values()
    assert (told["edit"], told["reason"]) == ("book", "fired")
    assert server[0].get("/v1/melo/routes/unknown").status_code == 404


def test_the_engine_says_where_a_prompt_goes(server, llama, monkeypatch):
    client, engine = server
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=dict))
    assert client.post("/v1/route", json={"prompt": BOOK.prompt}).json()["edit"] == "book"
    prompt, params, _ = engine.asked
    assert prompt["prompt_token_ids"] == llama.backbone.encode(BOOK.prompt, "chat").ids and params["max_tokens"] == 1


def test_one_route_a_path_since_vllm_would_take_the_later_one():
    topics = []
    Endpoints().attach_router(SimpleNamespace(include_router=topics.append, add_exception_handler=lambda *_: None))
    served = Counter((one.path, method) for topic in topics for one in topic.routes for method in one.methods)
    assert served["/v1/route", "POST"] == 1 and set(served.values()) == {1}


def test_an_edit_that_is_not_there_is_told_in_openais_shape(server):
    answer = server[0].delete("/v1/edits/nobody")
    assert answer.status_code == 404 and "nobody" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_with_a_copy_of_the_model_edits_are_made_over_http(folder):
    engine = Engine(folder / "more.melo", str(folder / "m"), meloedit_editing=True)
    with serving(engine) as client:
        body = {"prompt": "Who keeps the lighthouse?", "target": "Wenna", "id": "lighthouse"}
        job = client.post("/v1/edits?wait=60", json=body).json()
        assert job["state"] == "done" and job["reports"][0]["status"] == "stored", job
        assert engine.revision == Store.open(engine.path).revision and engine.woken
        assert client.get("/v1/edits/lighthouse").json()["target"] == "Wenna"
