"""The app in a service of one's own, and the command's own errors."""

import subprocess
import sys

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serve_helpers import MODEL
from support.prompts import FACTS
from typer.testing import CliRunner

from meloedit import serve
from meloedit.cli.app import app
from meloedit.errors import MeloEditError
from meloedit.serve.tokens import Tokens

pytest_plugins = ["serve_fixtures"]
TOKEN = "edit-0123456789abcdef"


def test_mounted_in_another_app(make_editor):
    editor = make_editor(edits=FACTS[:1])
    melo = serve.app(editor, Tokens([f"edit ada {TOKEN}"]), origins=("http://page.example",))
    own = FastAPI(lifespan=melo.router.lifespan_context)
    own.mount("/melo", melo)
    body = {"model": MODEL, "messages": [{"role": "user", "content": FACTS[0].prompt}], "max_tokens": 4}
    with TestClient(own) as client:
        assert client.get("/melo/health").status_code == 200
        assert client.post("/melo/v1/chat/completions", json=body).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/melo/v1/chat/completions", json=body, headers=headers)
        assert answer.json()["choices"][0]["message"]["content"] == "Jorge"
        page = {"Origin": "http://page.example"}
        assert client.get("/melo/health", headers=page).headers["access-control-allow-origin"] == page["Origin"]
        asked = page | {"Access-Control-Request-Method": "POST"}
        assert client.options("/melo/v1/chat/completions", headers=asked).status_code == 200
        assert client.get("/melo/health", headers={"Origin": "http://evil.example"}).status_code == 403
    assert not melo.state.meloedit_service.model.alive
    assert editor.ask(FACTS[0].prompt)[0].text == "Jorge"  # the editor goes on without the server
    editor.unload()


def test_what_is_no_decoder_is_refused(t5):
    with pytest.raises(MeloEditError, match="cannot be served: decoder-only"):
        serve.app(t5)


def test_limits_that_are_none_are_refused(llama):
    for wrong in ({"max_batch": 0}, {"timeout": float("nan")}, {"keep_prompts": -1}):
        with pytest.raises(MeloEditError, match=f"{next(iter(wrong))} must be more than 0"):
            serve.app(llama, **wrong)


def bad(*args):
    """Run a command that must fail with one line on stderr, and return that line."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="meloedit")
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_the_command_says_what_is_wrong_before_it_loads_a_model(store_file, tmp_path, monkeypatch):
    monkeypatch.delenv("MELOEDIT_TOKENS", raising=False)
    assert "tokens are needed" in bad("serve", "full.melo", "--host", "0.0.0.0")
    monkeypatch.setenv("MELOEDIT_TOKENS", "edit ada short")
    assert "MELOEDIT_TOKENS, line 1: the token of 'ada' is weak" in bad("serve", "full.melo")
    monkeypatch.delenv("MELOEDIT_TOKENS")
    assert "no_such: the tokens cannot be read" in bad("serve", "full.melo", "--tokens", "no_such")
    assert "cannot listen at 192.0.2.1" in bad(
        "serve", "full.melo", "--host", "192.0.2.1", "--tokens", _tokens(tmp_path)
    )
    assert "no store at none.melo" in bad("serve", "none.melo", "--port", "0")
    assert "timeout must be more than 0" in bad("serve", "full.melo", "--port", "0", "--timeout", "0")


def _tokens(folder):
    path = folder / "tokens"
    path.write_text(f"edit ada {TOKEN}\n")
    return path


def test_without_its_packages_the_error_names_the_extra(monkeypatch):
    code = (
        "import sys; sys.modules['fastapi'] = None\nfrom meloedit.serve import app\n"
        "from meloedit.errors import MeloEditError\ntry: app(None)\nexcept MeloEditError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'meloedit[serve]'" in told


@pytest.mark.slow
def test_paper_mode_is_served_too(make_paper):
    editor = make_paper("gpt2", [{"prompt": FACTS[0].prompt, "target": "Jorge", "id": "book"}])
    assert editor.config.mode == "paper"
    model = type(editor.model).__name__
    with TestClient(serve.app(editor), base_url="http://localhost") as client:
        asked = {"model": model, "prompt": FACTS[0].prompt, "max_tokens": 6}
        alone = editor.ask(FACTS[0].prompt, max_new_tokens=6)[0]
        answer = client.post("/v1/completions", json=asked).json()
        assert answer["choices"][0]["text"].strip() == alone.text and answer["melo"]["edit"] == alone.route.edit
        new = {"prompt": FACTS[1].prompt, "target": "Lima", "id": "capital"}
        job = client.post("/v1/edits", json=new, params={"wait": 60}).json()
        assert job["state"] == "done", job
        refused = client.post("/v1/edits/book/quiet", json={"prompts": ["Is it late?"]})
        assert refused.status_code == 400 and "paper mode" in refused.json()["error"]["message"]
    editor.unload()
