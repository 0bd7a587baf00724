"""The wheel: it holds every file of the package, and what it installs runs without the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ["py.typed", "keys/data/grammar.json", "cli/demo_facts.jsonl", "evaluation/report/report.html.jinja"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with the setuptools of this environment, from a copy: building writes into the source tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, tree)
    (path,) = out.glob("meloedit-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel, and nothing else, into a folder; the environment's packages serve what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    _pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def _pip(*arguments):
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments))


def _run(*command, path=""):
    environment = os.environ | {"PYTHONPATH": str(path), "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = ROOT / "src" / "meloedit"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("meloedit/") for name in archive.namelist() if name.startswith("meloedit/")}
    assert inside == {path.relative_to(package).as_posix() for path in files}
    assert [name for name in DATA if name not in inside] == []


def test_the_installed_command_runs(installed):
    command = installed / "bin" / "meloedit"
    assert _run(command, "--version", path=installed).startswith("meloedit 0.")
    assert "Teach a small model facts" in _run(command, "demo", "--help", path=installed)


def test_the_installed_package_reads_its_data(installed):
    code = (
        "import meloedit\n"
        "from meloedit.cli.demo import read_facts\n"
        "from meloedit.keys.grammar import make_prompts\n"
        "print(meloedit.__file__, len(read_facts()), len(make_prompts(5)))"
    )
    place, facts, prompts = _run(sys.executable, "-c", code, path=installed).split()
    assert Path(place) == installed / "meloedit" / "__init__.py"
    assert (int(facts), int(prompts)) == (20, 5)
