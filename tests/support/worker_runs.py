"""Runs of edits by an executor, to be compared with a serial one: what test_spawn.py and test_ray.py share."""

import time

import pytest
from support.prompts import EDITS, SETTINGS
from support.stores import contents

from meloedit import Editor, MeloConfig


@pytest.fixture(scope="session")
def folder(make_model, tokenizer, tmp_path_factory):
    """The folder of a tiny model, which workers load."""
    path = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def run(folder, tmp_path):
    """Make four edits in four parts, and return what the store has and how long it took."""

    def made(name, executor):
        config = MeloConfig(**SETTINGS, train_batch_size=1)
        with Editor.create(folder, config=config, store=tmp_path / name) as editor:
            editor.prepare()
            began = time.monotonic()
            reports = editor.edit(EDITS, executor=executor)
            seconds = time.monotonic() - began
            assert [report.status for report in reports] == ["stored"] * len(EDITS)
            return contents(editor), seconds

    return made
