"""Editors whose blocks are plain LoRAs."""

import pytest
from adapter_helpers import FOR_EXPORT
from support.prompts import FACTS


@pytest.fixture(scope="session")
def make_plain(make_editor):
    """Make an editor whose blocks can be exported."""
    return lambda edits=(), **settings: make_editor(edits=edits, **FOR_EXPORT | settings)


@pytest.fixture(scope="session")
def plain(make_plain):
    """One that knows FACTS; shared by tests that leave it as it is."""
    editor = make_plain(FACTS)
    yield editor
    editor.unload()
