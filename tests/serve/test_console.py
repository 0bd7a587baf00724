"""The console's page and files: who may read them, what stands in their heads, and that the bundle is the sources'."""

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.prompts import FACTS

from meloedit import serve
from meloedit.serve.tokens import Tokens

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "console"
BUNDLE = files("meloedit.serve") / "console"
TOKEN = "edit-0123456789abcdef"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources():
    """The files that console/build.mjs takes for the sources."""
    alone = ["index.html", "icon.svg", "package.json", "package-lock.json", "tsconfig.json", "build.mjs"]
    return [*(SOURCES / name for name in alone), *(path for path in (SOURCES / "src").rglob("*") if path.is_file())]


def test_the_bundle_is_what_the_sources_build():
    recorded = json.loads((BUNDLE / "build.json").read_text())
    lines = sorted((path.relative_to(SOURCES).as_posix(), digest(path)) for path in sources())
    whole = hashlib.sha256("".join(f"{name}\0{check}\n" for name, check in lines).encode()).hexdigest()
    assert whole == recorded["sources"], "the console's sources changed: run make console, and commit what it writes"
    built = {path.name: digest(path) for path in BUNDLE.iterdir() if path.name != "build.json"}
    assert built == recorded["files"], "a file of the bundle was changed by hand: run make console"


def test_the_bundle_has_its_licences_and_loads_nothing_from_elsewhere():
    lock = json.loads((SOURCES / "package-lock.json").read_text())["packages"]
    named = dict(re.findall(r"^(\S+) (\S+) \([\w.-]+\)$", (BUNDLE / "LICENSES.txt").read_text(), re.MULTILINE))
    assert {"preact", "lucide"} <= set(named)
    assert named == {name: lock[f"node_modules/{name}"]["version"] for name in named}
    page = (BUNDLE / "index.html").read_text()
    assert "//" not in page.replace("</", "") and "<script>" not in page and 'style="' not in page
    assert all("resolved" not in one and "integrity" in one for name, one in lock.items() if name)


@pytest.fixture(scope="module")
def mounted(make_editor, tmp_path_factory):
    """A service that mounts the app under a prefix, with tokens; its threads do not run."""
    editor = make_editor(edits=FACTS[:1], store=tmp_path_factory.mktemp("console") / "a.melo")
    melo = serve.app(editor, Tokens([f"edit ada {TOKEN}"]))
    own = FastAPI()
    own.mount("/melo", melo)
    yield editor, melo, TestClient(own, base_url="http://localhost")
    editor.unload()


def test_the_page_needs_no_token_and_is_guarded_by_its_heads(mounted):
    _, melo, client = mounted
    page = client.get("/melo/")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("/melo/", "/melo/console/app.js", "/melo/console/app.css", "/melo/console/icon.svg"):
        heads = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in heads["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'" and "unsafe" not in str(policy)
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert (heads["x-content-type-options"], heads["referrer-policy"]) == ("nosniff", "no-referrer")
    assert client.get("/melo", follow_redirects=False).headers["location"].endswith("/melo/")
    assert client.get("/melo/v1/store").status_code == 401
    assert not any("console" in path or path == "/" for path in melo.openapi()["paths"])


def test_every_file_that_the_page_names_is_there(mounted):
    _, _, client = mounted
    page = client.get("/melo/").text
    named = [part.split('"')[0] for part in page.replace('src="', 'href="').split('href="')[1:]]
    assert {"console/app.js", "console/app.css"} <= set(named)
    assert [client.get(f"/melo/{name}").status_code for name in named] == [200] * len(named)


def test_a_copy_that_is_still_right_is_not_sent_again(mounted):
    _, _, client = mounted
    tag = client.get("/melo/console/app.js").headers["etag"]
    again = client.get("/melo/console/app.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["none.js", "build.json", "..%2Fguard.py", "%2e%2e/tokens.py", "", "app.js/x", "app.JS"]
)
def test_other_files_are_not_given_out(mounted, name):
    _, _, client = mounted
    response = client.get(f"/melo/console/{name}")
    assert response.status_code in (401, 404) and "import" not in response.text


def test_without_the_console_there_is_no_page(mounted):
    editor, _, _ = mounted
    client = TestClient(serve.app(editor, console=False), base_url="http://localhost")
    assert [client.get(path).status_code for path in ("/", "/console/app.js")] == [404, 404]
    guarded = TestClient(serve.app(editor, Tokens([f"edit ada {TOKEN}"]), console=False), base_url="http://localhost")
    assert [guarded.get(path).status_code for path in ("/", "/console/app.js")] == [401, 401]
