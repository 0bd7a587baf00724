"""The benchmarks start, and the commands that the docs give for them exist."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT).with_suffix("")
    for path in (ROOT / "benchmarks").rglob("*.py")
    if path.parent.name != "shared"
)
TEXTS = [ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_benchmark_starts_and_shows_the_command_that_runs_it(script, monkeypatch, capsys):
    name = ".".join(script.parts)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert f"python -m {name} " in f"{capsys.readouterr().out} "


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_benchmarks_that_a_text_names_are_there(text):
    content = text.read_text("utf-8")
    modules = {name.replace(".", "/") + ".py" for name in re.findall(r"-m (benchmarks[\w.]+\w)", content)}
    files = set(re.findall(r"benchmarks/[\w/]+\.py", content))
    assert [name for name in sorted(modules | files) if not (ROOT / name).is_file()] == []
