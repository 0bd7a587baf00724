"""Methods of other packages: the example package is installed and used, and packages that are wrong are refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meloedit.cli.app import app
from meloedit.errors import MeloEditError
from meloedit.methods import METHODS, method_class, method_names
from meloedit.methods.third_party import GROUP, package_of
from meloedit.testing import MethodContract, tiny_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_method"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the example, as a user does, from a copy: building writes into the source tree."""
    tree, folder = tmp_path_factory.mktemp("tree") / "example", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, tree, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def example(installed, monkeypatch):
    """The example among the installed packages."""
    monkeypatch.syspath_prepend(installed)
    yield
    sys.modules.pop("meloedit_vectors", None)


@pytest.mark.usefixtures("example")
class TestVectors(MethodContract):
    """The example keeps the contract that every method keeps."""

    method = "vectors"
    settings = {"lr": 0.3, "steps": 30}


class TestMend(MethodContract):
    """A method that learns beforehand is given training edits."""

    method = "mend"
    settings = {"steps": 4, "batch_size": 4, "val_interval": 4, "rank": 8, "edit_lr": 1e-2, "layers": 2}
    families = ("llama",)
    answers = False
    test_a_family_that_it_does_not_serve_is_refused_in_one_line = None  # it serves all


def test_an_installed_method_is_found_by_its_name(example):
    assert method_names() == [*METHODS, "vectors"] and package_of("vectors") == "meloedit-vectors 0.1.0"
    assert method_class("vectors").name == "vectors"
    with pytest.raises(MeloEditError, match="no method 'knn'; there are: melo, .*, none, vectors$"):
        method_class("knn")


def test_eval_runs_it_with_its_settings_and_notes_the_package(example, tmp_path):
    model, tokenizer = tiny_model("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    facts = [{"id": f"f{i}", "prompt": f"Who leads {town}?", "target": "Cy"} for i, town in enumerate(("Oslo", "Bern"))]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in facts))
    options = ["--task", "zsre", "--data", str(tmp_path / "facts.jsonl"), "--model", str(tmp_path / "model")]
    options += ["--method", "vectors", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["eval", *options, "--set", "vectors.steps=5"])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["provenance"]["configuration"]["settings"] == {"vectors": {"steps": 5}}
    assert result["details"]["vectors"]["package"] == "meloedit-vectors 0.1.0"
    assert result["details"]["vectors"]["removal"] == "none" and "edit_success" in result["methods"]["vectors"]
    wrong = CliRunner().invoke(app, ["eval", *options, "--set", "vectors.step=5"])
    assert wrong.exit_code == 1 and "no setting 'step'; it has: edits_per_call, seed, depth" in wrong.output


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Put packages among the installed ones: each offers a method, from a module with this text."""

    def put(package, name, text, value=None):
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value or f'{package}_module:Thing'}\n")
        (folder / f"{package}_module.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setitem(sys.modules, f"{package}_module", None)
        monkeypatch.delitem(sys.modules, f"{package}_module")

    return put


THING = (
    "from meloedit.methods.none import Unedited\n"
    "class Thing(Unedited):\n"
    "    name = '{}'\n"
)  # fmt: skip
UNFINISHED = "from meloedit.methods.base import Method\nclass Thing(Method):\n    name = 'knn'\n"


def test_names_of_this_package_win(offer):
    offer("other", "ft", THING.format("ft"))
    assert method_class("ft").__module__ == "meloedit.methods.weights.ft" and method_names().count("ft") == 1


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ("Thing = 3", None, r"acme_module:Thing is no subclass of meloedit\.methods\.base\.Method$"),
        ("class Thing: pass", None, "is no subclass of"),
        (UNFINISHED, None, r"acme_module:Thing lacks _edit, _reset, size$"),
        (THING.format("nnk"), None, "has the name 'nnk', its entry point 'knn'$"),
        (
            "import no_such_package",
            None,
            r"cannot be imported from acme_module:Thing \(ModuleNotFoundError: .*\): inst",
        ),
        ("raise RuntimeError('two\\nlines')", None, r"\(RuntimeError: two lines\)"),
        ("", None, r"\(AttributeError: .*Thing"),
        ("", "no such module", r"cannot be imported from no such module"),
    ],
)
def test_a_package_that_cannot_be_used_is_one_line(offer, text, value, words):
    offer("acme", "knn", text, value)
    assert "knn" in method_names()
    with pytest.raises(MeloEditError, match=rf"^method knn of package acme 1\.0[: ].*{words}") as raised:
        method_class("knn")
    assert "\n" not in str(raised.value)


def test_a_name_that_cannot_name_a_file_is_refused(offer):
    offer("acme", "../knn", THING.format("../knn"))
    with pytest.raises(MeloEditError, match="a name has letters, digits, - and _ alone: rename the entry point$"):
        method_class("../knn")


def test_two_packages_of_one_name_are_named(offer):
    offer("acme", "knn", THING.format("knn"))
    offer("brand", "knn", THING.format("knn"))
    with pytest.raises(MeloEditError, match=r"^method knn is offered by acme 1\.0, brand 1\.0: uninstall all but one$"):
        method_class("knn")


def test_the_docs_show_the_example_as_it_is():
    page = (EXAMPLE.parents[1] / "docs" / "add-a-method.md").read_text("utf-8")
    for file in ("meloedit_vectors.py", "tests/test_vectors.py"):
        assert (EXAMPLE / file).read_text("utf-8").strip() in page
    group = (EXAMPLE / "pyproject.toml").read_text("utf-8").split("\n\n")[2]
    assert group.startswith("[project.entry-points") and group in page
