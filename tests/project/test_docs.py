"""The docs are complete: the command reference is generated, links lead to files, and all settings are listed."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from meloedit import MeloConfig
from meloedit.methods import METHODS, method_class
from meloedit.paper.config import PaperConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_command_reference_is_up_to_date():
    command = [sys.executable, "-m", "typer", "meloedit.cli.app", "utils", "docs", "--name", "meloedit"]
    reference = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == reference, "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("melo", "melo-paper", "none")])
def test_the_defaults_of_rivals_are_in_the_docs(name):
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (`\w+` .+) \|$", text, re.M)
    settings = method_class(name).Settings
    listed = {item.name: item.default for item in fields(settings) if item.name not in ("seed", *settings.fixed)}
    shown = {
        key: f"`{json.dumps(value)}`" if isinstance(value, (str, bool)) else value for key, value in listed.items()
    }
    assert row.replace(" (chosen)", "") == ", ".join(f"`{key}` {value}" for key, value in shown.items())


def settings_section():
    text = (ROOT / "docs" / "library.md").read_text("utf-8")
    return re.search(r"^## Settings$.+?(?=^## )", text, re.M | re.S)[0]


def test_every_setting_is_in_the_docs_with_its_default():
    rows = dict(re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", settings_section(), re.M))
    listed = {
        name: default.strip().strip("`")
        for names, defaults in rows.items()
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(","), strict=True)
    }
    assert listed == {item.name: str(item.default) for item in fields(MeloConfig)}


def test_every_setting_of_paper_mode_is_in_the_docs_with_its_default():
    listed = dict(re.findall(r"`(\w+)` \(`?([^)`]+)`?\)", settings_section()))
    shared = {item.name for item in fields(MeloConfig)}
    assert listed == {item.name: str(item.default) for item in fields(PaperConfig) if item.name not in shared}
