"""Keys and the scope calibrated again: on built-in prompts, on traffic, to another rate."""

import math

import pytest
import torch
from support.causal_checks import answers
from support.prompts import BOOK, CAPITAL, EDITS, HISTORY

from meloedit import Edit, Editor
from meloedit.errors import EditError, ModelError
from meloedit.hooks.state_reader import pooled_states
from meloedit.keys.grammar import make_prompts


def test_too_few_prompts_to_calibrate_on(make_editor):
    editor = make_editor()
    with pytest.raises(EditError, match="49 different prompts cannot calibrate a .* rate of 0.02: give at least 50"):
        editor.calibrate(make_prompts(49) + make_prompts(49))
    with pytest.raises(EditError, match=r"prompts\[1\] is empty"):
        editor.calibrate(["fine", " "])
    assert editor.store.revision == 1
    editor.unload()


def test_calibrating_anew_keeps_the_edits(make_editor):
    editor = make_editor(edits=EDITS)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a lake."}]
    own = [HISTORY, EDITS[0].prompt + " "]  # the edits' own prompts are to be answered: left out
    traffic = [*make_prompts(60, seed=5), chat, *own]
    editor.calibrate(traffic, origin="traffic")
    made = editor.calibration
    assert made.info == {"source": "traffic", "prompts": 61, "keys": len(made.prompts)}
    assert made.prompt_of.unique().tolist() == list(range(122))  # raw and chat
    assert len(made.prompt_of) > 122  # some have segments
    assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    assert editor.check().broken == []
    editor.unload()


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_unrelated_prompts_fire_about_as_often_as_stated(make_editor, rate):
    editor = make_editor(false_activation=rate, min_similarity=-1.0, calibration_prompts=600)
    editor.edit([Edit(prompt, "on", id=prompt) for prompt in make_prompts(12, seed=77)])
    fresh = make_prompts(800, seed=78)
    fired = [sum(route.edit is not None for route in editor.route(fresh, form)) for form in ("raw", "chat")]
    assert rate / 2 < sum(fired) / 1600 < rate * 2
    editor.unload()


def test_a_calibration_in_the_cache_is_of_one_tokenizer(make_editor, make_tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path))
    made = []
    for tokenizer in (make_tokenizer(), make_tokenizer(bos=True), make_tokenizer()):
        editor = make_editor(tokenizer=tokenizer)
        editor.calibrate()
        made.append(editor.calibration.prompts)
        editor.unload()
    first, with_bos, again = (prompts.content for prompts in made)
    assert torch.equal(first, again) and not torch.allclose(first, with_bos, atol=1e-2)


def test_a_key_does_not_depend_on_its_batch(edited):
    forms = [form for edit in EDITS for form in edited.backbone.forms(edit.prompt)]
    forms += [edited.backbone.encode(text, "chat") for text in make_prompts(20, seed=6)]
    keys = edited.calibration.encoder.content
    alone = torch.cat([keys(_pooled(edited, [form])) for form in forms])
    assert torch.allclose(keys(_pooled(edited, forms)), alone, atol=1e-5)


def _pooled(editor, forms):
    return pooled_states(editor.engine.router, forms)


def test_the_scope_can_be_set_anew_without_training(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "facts.melo"
    editor = make_editor(edits=[BOOK, CAPITAL], store=path)
    before, first = editor.store.tensors(), editor.store.revision
    usual = editor.index.similarity
    assert editor.calibrate(min_similarity=0.95) == first + 1
    assert editor.index.similarity == pytest.approx(max(0.95, editor.index.calibrated))
    after = editor.store.tensors()
    for name, (block, own) in before.items():
        assert all(torch.equal(block[key], after[name][0][key]) for key in block)
        assert all(torch.equal(own[part], after[name][1][part]) for part in own)
    editor.calibrate(false_activation=0.25)
    assert editor.calibration.info["min_similarity"] == 0.95
    loose = editor.index.calibrated
    editor.unload()
    with Editor.from_pretrained(path, make_model(), tokenizer) as again:
        assert again.index.similarity == pytest.approx(max(0.95, again.index.calibrated))
        assert again.index.calibrated == pytest.approx(loose, abs=1e-6)
        again.calibrate(make_prompts(60, seed=5))  # other prompts: what was stated of the scope stays
        assert again.calibration.info["prompts"] == 60 and again.index.similarity >= 0.95
        for settings, words in (
            ({"false_activation": 1e-4}, "60 different prompts cannot calibrate"),
            ({"min_similarity": 7.0}, "min_similarity must be None or between -1 and 1"),
            ({"false_activation": math.nan}, "false_activation must be at least"),
        ):
            revision = again.store.revision
            with pytest.raises((EditError, ModelError), match=words):
                again.calibrate(**settings)
            assert again.store.revision == revision
        again.rollback(first)
        assert again.index.similarity == pytest.approx(usual, abs=1e-6)
        assert answers(again, BOOK, CAPITAL) == [BOOK.target, CAPITAL.target]
