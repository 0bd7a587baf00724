"""SmolLM2 with the edits of all kinds, found by their keys, without blocks, so that nothing trains; asked once."""

from dataclasses import replace

import pytest
from all_kinds import KINDS, question

from meloedit import Editor
from meloedit.backbones import loading
from meloedit.edit import prompt_key

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


@pytest.fixture(scope="session")
def reached(smollm2):
    """By prompt, as ``question`` gives it, the prompt of the edit that it reaches in the chat template, or None."""
    kinds = list(KINDS.values())
    edits = {prompt_key(edit.prompt): edit for kind in kinds for edit in kind.edits}
    edits = [replace(edit, id=f"edit-{number}") for number, edit in enumerate(edits.values())]
    prompts = {question(prompt): prompt for kind in kinds for prompt in kind.prompts if question(prompt)}
    with smollm2.engine.mode.unmade(edits):
        routes = smollm2.route(list(prompts.values()), "chat")
    asked = {edit.id: question(edit.prompt) for edit in edits}
    return {prompt: asked.get(route.edit) for prompt, route in zip(prompts, routes, strict=True)}
