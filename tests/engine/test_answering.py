"""Answers with their routes, from an editor and from a compiled model."""

import json

import pytest
import torch
from support.prompts import EDITS, OTHERS, RIVER

from meloedit.errors import EditError


def test_ask(edited):
    prompts = [*OTHERS, *[edit.prompt for edit in EDITS], *OTHERS]
    found = edited.ask(prompts, batch_size=4, max_new_tokens=8)
    assert [answer.prompt for answer in found] == prompts
    assert [answer.text for answer in found[3:7]] == [edit.target for edit in EDITS]
    assert [answer.route.edit for answer in found[3:7]] == [edit.id for edit in EDITS]
    assert [answer.text for answer in found[:3]] == [answer.text for answer in found[7:]]
    assert json.loads(json.dumps(found[3].to_dict()))["route"]["edit"] == "book"
    assert found[3].tokens == len(edited.tokenizer(" Jorge")["input_ids"])
    assert edited.ask(RIVER.prompt)[0].text == "very long"
    beams = edited.ask(prompts, batch_size=4, max_new_tokens=8, num_beams=2)
    assert [answer.route.edit for answer in beams] == [answer.route.edit for answer in found]
    with edited.base_model():
        assert {answer.route.reason for answer in edited.ask(prompts[:3])} == {"no edits"}


def test_ask_without_edits(make_editor):
    editor = make_editor()
    (answer,) = editor.ask(OTHERS[0], max_new_tokens=4)
    assert answer.route.reason == "no edits" and answer.route.edit is None
    assert editor.route(OTHERS)[0].reason == "no edits"
    with pytest.raises(EditError, match="empty"):
        editor.ask("  ")
    editor.unload()


def test_a_model_compiled_before_the_edits_routes_to_them(make_editor):
    editor = make_editor()
    compiled = torch.compile(editor.model, backend="eager")
    prompt = editor.tokenizer(EDITS[0].prompt, return_tensors="pt")

    def logits(model):
        with torch.no_grad():
            return model(**prompt).logits

    base = logits(compiled)
    editor.edit(EDITS)
    edited = logits(compiled)
    assert editor.last_routes[0].edit == EDITS[0].id
    assert torch.equal(edited, logits(editor.model)) and not torch.equal(edited, base)
    editor.remove([EDITS[0].id])
    assert torch.equal(logits(compiled), base)
    editor.unload()
