"""An editor on SmolLM2 for tests of routes: edits are found by their keys, without blocks, so that nothing trains."""

import pytest

from meloedit import Editor
from meloedit.backbones import loading

CACHE = loading.cache_folder()  # read before the tests get one of their own


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2 with the calibration that ships and no edits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(CACHE))
        editor = Editor.create("smollm2")
        editor.prepare()
    yield editor
    editor.unload()


def reached(editor, edits, prompts, form="chat"):
    """Return for each prompt the id of the edit that it would reach; ``None`` for none."""
    with editor.engine.mode.unmade(edits):
        return [route.edit for route in editor.route(list(prompts), form)]


def question(prompt):
    """Return a prompt as the table of docs/prompts.md has it: the turns of a chat with slashes between."""
    return prompt if isinstance(prompt, str) else " / ".join(turn["content"] for turn in prompt)
