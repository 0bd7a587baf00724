"""Fixtures of the server's tests: one server that most of them share."""

import pytest
from serve_helpers import Served, running, serving
from support.prompts import FACTS
from upstream_helpers import Adapters

from meloedit.serve import proxy
from meloedit.serve.proxy.upstream import Upstream
from meloedit.serve.settings import ServeSettings


@pytest.fixture(scope="session")
def served(make_editor, tmp_path_factory):
    """A server on a tiny model that knows FACTS; tests that change its edits bring them back."""
    editor = make_editor(edits=FACTS, store=tmp_path_factory.mktemp("serve") / "facts.melo")
    with serving(editor, max_batch=8, max_tokens=64, keep_prompts=1.0) as running:
        yield running
    editor.unload()


@pytest.fixture(scope="session")
def proxied(make_editor, make_model, tokenizer, tmp_path_factory):
    """The proxy with FACTS, in front of a server that has them as adapters."""
    folder, limits = tmp_path_factory.mktemp("proxy"), {"max_batch": 8, "max_tokens": 64}
    editor = make_editor(edits=FACTS, store=folder / "facts.melo", reach="all", answer_positions=0)
    names = editor.export(folder / "adapters").adapters.values()
    behind = Adapters(make_model, tokenizer, folder / "adapters", names, **limits)
    with running(behind, ServeSettings()) as port:
        made = proxy.app(editor, Upstream(f"http://127.0.0.1:{port}/v1/"), keep_prompts=1.0, **limits)
        with running(made, ServeSettings()) as own:
            served = Served(editor, made, ServeSettings(**limits), own)
            served.behind = behind
            yield served
            served.http.close()
    behind.close()
    editor.unload()


@pytest.fixture
def store_file(make_editor, make_model, tokenizer, tmp_path, monkeypatch):
    """A store with FACTS in the working folder, and its model in a folder beside it."""
    monkeypatch.chdir(tmp_path)
    model = make_model("llama")
    model.save_pretrained("model")
    tokenizer.save_pretrained("model")
    model.config._name_or_path = str(tmp_path / "model")
    make_editor(edits=FACTS, model=model, store="full.melo").unload()
    return tmp_path / "full.melo"
