"""The five examples and the README's first edit run on the real model, and print what they should."""

import re
import runpy
from pathlib import Path

import pytest

from meloedit.files import cache_folder

pytestmark = pytest.mark.real
EXAMPLES = Path(__file__).parents[2] / "examples"
CACHE = cache_folder()  # read before a test changes it: the model and its calibration are made once for all examples


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example as `python examples/NAME.py` does, in an empty folder; return what it prints."""
    monkeypatch.setenv("MELOEDIT_CACHE", str(CACHE))
    monkeypatch.chdir(tmp_path)

    def run_example(name):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def test_every_example_is_tested_here_and_named_in_the_readme():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {"first_edit", "faq_from_csv", "serve_in_process", "compare_editors", "undo_a_mistake"}
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    assert [name for name in scripts if f"examples/{name}.py" not in readme] == []


def test_the_readme_prints_what_it_says(run, capsys):
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    code, output = re.findall(r"```python\n(.+?)```\n```text\n(.+?)```", readme, re.S)[0]
    names = {}
    exec(code, names)
    assert capsys.readouterr().out == output
    names["editor"].unload()


@pytest.mark.slow  # the README's first edit is much the same
def test_the_first_edit_answers_in_other_words_and_leaves_without_a_trace(run, tmp_path):
    before, edited, after = run("first_edit").split("  Who is the mayor of Velmora?")[1:]
    assert "mayor: stored, holds: True" in before
    assert edited.count("'Ilse Tarrant'  (edit mayor)") == 2
    assert "The capital of France is Paris.'  (base model)" in edited
    answers = [text.split("\nmayor: stored")[0].strip() for text in (before, after)]
    assert answers[0] == answers[1] and "edit mayor" not in answers[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_table_of_questions_is_stored_once_and_found_by_other_words(run, tmp_path):
    first = run("faq_from_csv")
    assert first.count("stored   holds: True") == 8
    assert "5 of 5 questions in other words reached the right edit, or none" in first
    again = run("faq_from_csv")
    assert again.count("skipped  holds: True") == 8
    assert "8 edits in faq.melo" in again
    answers = [text.split("8 edits")[1].split("\n", 1)[1] for text in (first, again)]
    assert answers[0] == answers[1]


def test_plain_generate_and_a_pipeline_reach_the_edits(run):
    lines = run("serve_in_process").splitlines()
    assert lines[1].startswith("  'Ilse Tarrant'  edit: mayor") and lines[1].endswith("as the base model: False")
    assert "edit: None" in lines[3] and lines[3].endswith("as the base model: True")
    assert lines[5].startswith("  '212 metres'  edit: tower")
    assert lines[6] == "chat: 'Ilse Tarrant'  edit: mayor"


@pytest.mark.slow
def test_the_methods_are_compared_in_one_table(run):
    head, *rows = run("compare_editors").splitlines()
    assert head.split() == ["method", "edits", "rephrased", "unrelated", "kept", "seconds"]
    assert [row.split()[0] for row in rows] == ["melo", "ft", "rag"]
    assert rows[0].split()[1:4] == ["3/3", "3/3", "2/2"]


def test_a_mistake_is_undone_in_each_of_the_three_ways(run):
    lines = dict(line.split(":", 1) for line in run("undo_a_mistake").splitlines() if ":" in line)
    assert "'Imre Vadas' (author, fired)" in lines["neighbour, edited"]
    assert "(base model, quiet)" in lines["neighbour, quiet"]
    assert "'Imre Vadas' (author, fired)" in lines["author, quiet neighbour"]
    assert "(base model, no edits)" in lines["author, disabled"]
    assert "'Nobody Inparticular' (wrong, fired)" in lines["author, wrong target"]
    assert "'Imre Vadas' (author, fired)" in lines["author, rolled back"]
