"""What is installed has a hash, and no line of code turns bytes into code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(name):
    """Return the packages that a file pins, with their versions."""
    lines = (ROOT / name).read_text().splitlines()
    return {line.split(" ")[0].split(";")[0].strip() for line in lines if re.match(r"[a-z0-9]", line)}


def test_the_lock_has_the_versions_of_the_requirements_and_a_hash_of_every_file():
    wanted = pins("requirements.txt") | pins("requirements-models.txt")
    torch = {pin for pin in wanted if pin.startswith("torch==")}
    assert len(torch) == 1 and pins("requirements.lock") == wanted - torch, "run: make lock"
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries if re.match(r"[a-z0-9]", entry))


def test_the_makefile_installs_by_the_lock_and_the_same_torch():
    recipe = (ROOT / "Makefile").read_text()
    assert "install --require-hashes --no-deps -r requirements.lock" in recipe
    (torch,) = (pin for pin in pins("requirements.txt") if pin.startswith("torch=="))
    assert set(re.findall(r"torch==[\d.]+", recipe + (ROOT / "README.md").read_text())) == {torch}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("eval('1')", "S307"),
        ("exec('1')", "S102"),
        ("import pickle", "TID251"),
        ("from pickle import loads", "TID251"),
        ("import torch\ntorch.load('x')", "TID251"),
        ("from torch import load", "TID251"),
        ("import numpy\nnumpy.load('x')", "TID251"),
        ("import marshal\nmarshal.loads(b'')", "S302"),
        ("import yaml\nyaml.load('x', yaml.Loader)", "S506"),
        ("import subprocess\nsubprocess.run('x', shell=True)", "S602"),
        ("import os\nos.system(input())", "S605"),
    ],
)
def test_a_lint_rule_refuses_what_may_run_code(line, rule):
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", "--config", ROOT / "pyproject.toml", "--stdin-filename", ROOT / "src/meloedit/x.py", "-"]
    done = subprocess.run(command, input=f'"""A module."""\n\n{line}\n', capture_output=True, text=True)
    assert f"{rule} " in done.stdout + done.stderr
