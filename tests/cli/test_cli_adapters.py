"""The commands that bring edits to other engines: init --for-export, export, import, route-proxy."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import FACTS, SETTINGS, bad, good, good_json, write
from transformers import AutoModelForCausalLM

from meloedit import Edit
from meloedit.adapters import checking

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(scope="module")
def made(folder, make_editor, tmp_path_factory):
    """A store of edits that can be exported."""
    path = tmp_path_factory.mktemp("plain") / "plain.melo"
    model = AutoModelForCausalLM.from_pretrained(folder)
    edits = [Edit.from_dict(fact) for fact in FACTS]
    make_editor(edits=edits, model=model, store=path, reach="all", answer_positions=0).unload()
    return path


@pytest.fixture
def plain(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made, "plain.melo"))


def test_out_and_in_again(plain, tmp_path):
    out = good("export", plain, "out")
    assert out == "3 edits in out: 3 written, 0 there already\n"
    good("disable", plain, "legs")
    out = good_json("export", plain, "out")
    assert list(out["adapters"]) == ["book", "capital"] and out["disabled"] == ["legs"] and len(out["removed"]) == 1
    out = good("import", "out", "new.melo").splitlines()
    assert out == ["2 edits stored in new.melo, 0 there already; revision 3"]
    assert good("ask", "new.melo", FACTS[0]["prompt"]) == "Jorge\n"
    assert good_json("show", "new.melo")["config"]["reach"] == "all"
    assert good_json("import", "out", plain)["skipped"] == ["book", "capital"]


def test_export_needs_neither_torchs_model_nor_transformers(plain):
    code = "import sys; from meloedit.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    code += "; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "export", str(plain), "out"], check=True, capture_output=True)


@pytest.mark.slow
def test_export_checked_and_fused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good("init", "plain.melo", "--model", folder, "--for-export", *SETTINGS)
    good("edit", "plain.melo", write(tmp_path / "facts.jsonl", *FACTS))
    out = good("export", "plain.melo", "out", "--check").splitlines()
    assert out[1].startswith("through PEFT 3 of 3 edits answer as the store does (")
    out = good("export", "plain.melo", "one", "--fuse", "--id", "book", "--rank", "32").splitlines()
    assert out[0].startswith("1 edit in one adapter of rank ") and ": one/fused-melo-" in out[0] and len(out) == 4
    assert out[2] == "  edits' prompts answered right: 2 of 2; not cut off, 2; routed, all"
    assert bad("import", "one", "x.melo").startswith("one holds several edits")
    cut = good_json("export", "plain.melo", "two", "--fuse", "--rank", "1")
    assert cut["edits"] == 3 and cut["rank"] == 1 and 0 < cut["lost"] < 1 and cut["held"] < cut["asked"] == 6


def test_what_cannot_be_exported_or_imported_is_one_line(plain, monkeypatch):
    assert bad("export", plain, "x", "--id", "boook") == "plain.melo has no edit 'boook'; did you mean 'book'?"
    assert "leave out --check" in bad("export", plain, "x", "--fuse", "--check")
    assert bad("import", "x", "y.melo").startswith("x is no folder of adapters: index.json cannot be read")
    good("export", plain, "out")
    (name,) = list(Path("out").glob("melo-*/adapter_config.json"))[:1]
    name.write_text(json.dumps(json.loads(name.read_text()) | {"lora_alpha": 64}))
    assert f"{name} was changed since it was exported" in bad("import", "out", "y.melo")
    assert not Path("y.melo").exists()
    monkeypatch.setattr(checking, "version", lambda _: "0.17.0")
    assert bad("export", plain, "x", "--check").startswith("PEFT 0.17.0 was not tried")


def test_for_export_and_other_settings(folder, tmp_path):
    new = tmp_path / "a.melo"
    assert bad("init", new, "--model", folder, "--for-export", "--reach", "answer") == (
        "--for-export sets reach=all: leave reach=answer out"
    )
    assert "leave answer_positions=4 out" in bad(
        "init", new, "--model", folder, "--for-export", "--set", "answer_positions=4"
    )
    assert "leave out --paper" in bad("init", new, "--model", folder, "--for-export", "--paper")
    assert not new.exists()


def test_route_proxy_says_in_one_line_what_is_missing(plain):
    away = ("route-proxy", plain, "--upstream", "http://127.0.0.1:9", "--port", 0)
    assert bad(*away).startswith("the upstream server http://127.0.0.1:9 cannot be reached (")
    assert "is no address of a server" in bad("route-proxy", plain, "--upstream", "here")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1 port {port}" in bad(*away[:-1], port)
    assert "so tokens are needed" in bad(*away, "--host", "0.0.0.0")
