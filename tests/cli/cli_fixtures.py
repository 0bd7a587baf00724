"""Fixtures of the command line's tests: a model's folder, and stores made by the commands.

Each test module loads them by ``pytest_plugins``: a second conftest.py would hide the one that other tests import.
"""

import shutil
from pathlib import Path

import pytest
from cli_helpers import FACTS, SETTINGS, good, write


@pytest.fixture(scope="session")
def folder(make_model, tokenizer, tmp_path_factory):
    """A tiny model as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("model")
    make_model("llama").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def stores(folder, tmp_path_factory):
    """A folder with a store without edits and one with FACTS. Tests work on copies, so neither changes."""
    home = tmp_path_factory.mktemp("stores")
    good("init", home / "empty.melo", "--model", folder, *SETTINGS)
    shutil.copy(home / "empty.melo", home / "full.melo")
    good("edit", home / "full.melo", write(home / "facts.jsonl", *FACTS))
    return home


@pytest.fixture
def empty(stores, tmp_path, monkeypatch):
    """A store without edits, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(stores / "empty.melo", "empty.melo"))


@pytest.fixture
def full(stores, tmp_path, monkeypatch):
    """A store with FACTS, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(stores / "full.melo", "full.melo"))
