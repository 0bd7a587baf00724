"""The editor on its model and its store: created, loaded, in other dtypes, over several devices, detached."""

import math
import re

import pytest
import torch
from support.causal_checks import answers, portrait
from support.prompts import BOOK, CAPITAL, EDITS, LEGS, RIVER, SETTINGS

from meloedit import Edit, Editor, MeloConfig
from meloedit.errors import ModelError, StoreError


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_load_restores_the_very_behaviour(make_editor, make_model, tokenizer, family, tmp_path):
    path = tmp_path / "facts.melo"
    quiet = Edit(CAPITAL.prompt, CAPITAL.target, id="capital", quiet=["What is the capital of Chile?"])
    editor = make_editor(family, [BOOK, quiet, LEGS, RIVER], store=path)
    editor.disable("legs")
    editor.remove("book")
    editor.edit(BOOK)
    expected, threshold = portrait(editor), editor.index.threshold
    copy = tmp_path / "copy.melo"
    editor.save(copy)
    editor.unload()
    for store in (path, copy):
        again = Editor.from_pretrained(store, make_model(family), tokenizer)
        logits, routes = portrait(again)
        assert torch.equal(logits, expected[0]) and routes == expected[1]
        assert again.index.threshold == pytest.approx(threshold, abs=1e-6)
        assert [stored.enabled for stored in again.edits()] == [True, False, True, True]
        again.unload()
    with pytest.raises(StoreError, match="exists already"):
        Editor.from_pretrained(path, make_model(family), tokenizer).save(copy)


def test_a_store_of_another_model_is_refused(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_editor(edits=[BOOK], store=path)
    print_a = editor.backbone.fingerprint()
    editor.unload()
    other = make_model()
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    with pytest.raises(StoreError) as error:
        Editor.from_pretrained(path, other, tokenizer)
    assert print_a in str(error.value)
    assert len(set(re.findall("fingerprint ([0-9a-f]{16})", str(error.value)))) == 2
    assert not other._forward_hooks
    Editor(other, tokenizer, MeloConfig(**SETTINGS)).unload()


def test_wrong_names_of_modules_are_answered_with_those_there_are(make_model, tokenizer):
    for family, there in [
        ("llama", r"model\.layers\.\{0\.\.4\}\.mlp\.down_proj"),
        ("gpt2", r"transformer\.h\.\{0\.\.4\}\.mlp\.c_proj"),
    ]:
        model = make_model(family)
        with pytest.raises(ModelError, match=f"no linear module 'nowhere'.*{there}"):
            Editor(model, tokenizer, MeloConfig(modules=["nowhere"]))
        with pytest.raises(ModelError, match="no module 'nowhere' to take keys from"):
            Editor(model, tokenizer, MeloConfig(key_layer="nowhere"))
        prefix = "model.layers" if family == "llama" else "transformer.h"
        with pytest.raises(ModelError, match=rf"key_layer '{prefix}\.3' must lie below"):
            Editor(model, tokenizer, MeloConfig(key_layer=f"{prefix}.3"))
        with pytest.raises(ModelError, match="the first edited layer is layer 0"):
            Editor(model, tokenizer, MeloConfig(layers=5))
        with pytest.raises(ModelError, match="lm_head.*outside the layers"):
            Editor(model, tokenizer, MeloConfig(modules=["lm_head"]))
        assert "generate" not in vars(model) and not model._forward_hooks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(make_editor, make_model, tokenizer, dtype, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_editor(model=make_model().to(dtype), edits=EDITS, store=path)
    assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    assert editor.check().broken == []
    expected = portrait(editor)
    with editor.base_model():
        base = portrait(editor)[0]
    for i, (edit, *_) in enumerate(expected[1]):
        assert torch.equal(expected[0][i], base[i]) == (edit is None)
    editor.unload()
    again = Editor.from_pretrained(path, make_model().to(dtype), tokenizer)
    assert torch.equal(portrait(again)[0], expected[0])
    again.unload()


def test_a_store_of_blocks_without_positions_takes_in_blocks_with_them(
    make_editor, make_model, tokenizer, tmp_path, monkeypatch
):
    path, to_dict = tmp_path / "old.melo", MeloConfig.to_dict
    with monkeypatch.context() as patch:
        patch.setattr(
            MeloConfig, "to_dict", lambda self: {k: v for k, v in to_dict(self).items() if k != "answer_positions"}
        )
        make_editor(edits=EDITS[:1], store=path, answer_positions=0).unload()
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:
        assert all(report.holds for report in editor.edit(EDITS[1]))
        name, tensors = editor.config.modules[0], editor.store.tensors()
        without, with_positions = (tensors[edit.id or ""][0] for edit in EDITS[:2])
        assert f"{name}.P" not in without and with_positions[f"{name}.P"].shape[1] == 8
        assert [answer.text for answer in editor.ask([edit.prompt for edit in EDITS[:2]])] == [
            edit.target for edit in EDITS[:2]
        ]


def test_another_dtype_is_the_same_model_with_a_warning(make_editor, make_model, tokenizer, tmp_path, caplog):
    make_editor(edits=[BOOK], store=tmp_path / "a.melo").unload()
    editor = Editor.from_pretrained(tmp_path / "a.melo", make_model().to(torch.bfloat16), tokenizer)
    assert "torch.float32, the model is in torch.bfloat16" in caplog.text
    assert editor.ask(BOOK.prompt)[0].route.edit == "book"
    editor.unload()


@pytest.fixture
def saved(make_model, tokenizer, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("device_map", ["cpu", "disk"])
def test_a_device_map(saved, device_map, tmp_path):
    kwargs = {"device_map": "cpu"}
    if device_map == "disk":
        places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.rotary_emb": "cpu"}
        places |= {f"model.layers.{i}": "disk" if i in (1, 3, 4) else "cpu" for i in range(5)}
        kwargs = {"device_map": places, "offload_folder": str(tmp_path / "offload")}
    config = MeloConfig(**SETTINGS)
    with Editor.create(str(saved), config=config, store=tmp_path / "a.melo", **kwargs) as editor:
        assert all(report.holds for report in editor.edit(EDITS))
        assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    with Editor.from_pretrained(tmp_path / "a.melo") as again:  # from the folder that the store names, without a map
        assert answers(again, *EDITS) == [edit.target for edit in EDITS]
        assert math.isclose(again.route(BOOK.prompt)[0].distance, 0, abs_tol=1e-3)


def test_a_new_store_must_be_new(saved, make_editor, make_model, tokenizer, tmp_path):
    make_editor(store=tmp_path / "a.melo").unload()
    with pytest.raises(StoreError, match=r"a\.melo exists already"):
        Editor.create(str(saved), store=tmp_path / "a.melo")
    model = make_model()
    with pytest.raises(StoreError, match=r"a\.melo exists already"):
        Editor(model, tokenizer, store=tmp_path / "a.melo")
    Editor(model, tokenizer, store=tmp_path / "b.melo").unload()


def test_after_unload_nothing_can_be_changed(make_editor):
    editor = make_editor(edits=[BOOK])
    model = editor.unload()
    for change in (lambda: editor.edit(LEGS), lambda: editor.remove("book"), lambda: editor.rollback(1)):
        with pytest.raises(ModelError, match="was unloaded"):
            change()
    assert not model._forward_hooks
