"""Models in odd states, and tokenizers that are not the store's: right, or refused in one line when it can be known."""

import copy
import io
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.prompts import BOOK, CAPITAL, LEGS, SETTINGS

from meloedit import Edit, Editor, MeloConfig
from meloedit.errors import ModelError, StoreError
from meloedit.store import Store


def answers(editor):
    return [answer.text for answer in editor.ask([BOOK.prompt, CAPITAL.prompt])]


@pytest.mark.parametrize("rank", [pytest.param(4, marks=pytest.mark.slow), 64])
def test_a_model_with_an_adapter_is_edited_around_the_adapter(rank, make_model, make_editor):
    model = make_model()
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=rank, target_modules=["down_proj", "up_proj", "q_proj"], init_lora_weights=False))
    inputs = {"input_ids": torch.arange(5, 20)[None]}
    with torch.no_grad():
        before = model(**inputs).logits
    editor = make_editor(edits=[BOOK, CAPITAL], model=model)
    assert editor.engine.modules == tuple(f"model.layers.{i}.mlp.down_proj" for i in (2, 3, 4))
    assert answers(editor) == ["Jorge", "Lima"]
    with torch.no_grad():
        assert torch.equal(editor.model(**inputs).logits, before)
    editor.unload()


def test_wrappers_and_quantised_models_are_refused_when_they_are_given(make_model, tokenizer, tmp_path):
    wrapper = get_peft_model(make_model(), LoraConfig(target_modules=["q_proj"]))
    quantised = torch.ao.quantization.quantize_dynamic(make_model(), {torch.nn.Linear}, dtype=torch.qint8)
    for model, words in (
        (wrapper, "PEFT's wrapper around a model: give model.get"),
        (quantised, "torch.ao.quantization"),
    ):
        for make in (Editor.create, Editor):
            with pytest.raises(ModelError, match=words) as error:
                make(model, tokenizer, MeloConfig(**SETTINGS), tmp_path / "new.melo")
            assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    with Editor(wrapper.get_base_model(), tokenizer, MeloConfig(**SETTINGS)) as editor:
        assert editor.edit(BOOK)[0].holds


def test_weights_that_change_under_an_editor_are_noticed_before_anything_is_made_of_them(make_editor):
    editor = make_editor(edits=[BOOK, CAPITAL])
    weight = editor.model.get_submodule("model.layers.1.mlp.up_proj").weight
    kept = weight.data.clone()
    weight.data += 0.1
    revision = editor.store.revision
    for change in (
        lambda: editor.edit(LEGS),
        lambda: editor.calibrate(min_similarity=0.6),
        lambda: editor.allow("book", "The book of sand is by whom?"),
        lambda: editor.quiet("book", "Who read the book of sand?"),
    ):
        with pytest.raises(ModelError, match="weights have changed under the editor .*unload"):
            change()
    assert editor.store.revision == revision
    assert "weights have changed" in editor.check().problems[0]
    weight.data = kept
    assert editor.edit(LEGS)[0].holds and editor.check().problems == []
    editor.remove("legs")
    editor.model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="weights have changed"):
        editor.edit(LEGS)
    editor.unload()


def test_a_hooked_model_is_neither_copied_nor_pickled_and_a_free_one_is(make_editor):
    editor = make_editor(edits=[BOOK])
    for take in (copy.copy, copy.deepcopy, pickle.dumps, lambda model: torch.save(model, io.BytesIO())):
        with pytest.raises(ModelError, match="cannot be copied or pickled: unload the editor first"):
            take(editor.model)
    assert editor.ask(BOOK.prompt)[0].text == "Jorge"
    model = editor.unload()
    for free in (copy.copy(model), copy.deepcopy(model)):
        assert not free._forward_pre_hooks and "generate" not in vars(free)


def test_the_hooks_of_a_lost_editor_can_be_taken_off(make_editor, make_model, tokenizer):
    lost = make_editor(edits=[BOOK])
    model = lost.model
    with pytest.raises(ModelError, match=r"has an editor: use it or unload it; if it is lost, Editor.release\(model\)"):
        Editor(model, tokenizer, MeloConfig(**SETTINGS))
    Editor.release(model)
    Editor.release(model)  # again: nothing to do
    for use in (lambda: lost.ask(BOOK.prompt), lambda: lost.route(BOOK.prompt), lambda: lost.edit(CAPITAL)):
        with pytest.raises(ModelError, match="was taken off its model"):
            use()
    with Editor(model, tokenizer, MeloConfig(**SETTINGS)) as editor:
        assert editor.edit(CAPITAL)[0].holds


def test_another_tokenizer_is_refused_and_another_template_is_told(
    make_editor, make_model, make_tokenizer, tmp_path, caplog
):
    path = tmp_path / "facts.melo"
    make_editor(edits=[BOOK], store=path).unload()
    with pytest.raises(StoreError, match="was made with another tokenizer .*open it with the tokenizer of"):
        Editor.from_pretrained(path, make_model(), make_tokenizer(bos=True))
    padded = make_tokenizer()
    padded.add_special_tokens({"pad_token": "<pad>"})  # no text has it
    Editor.from_pretrained(path, make_model(), padded).unload()
    assert "another chat template" not in caplog.text
    Editor.from_pretrained(path, make_model(), make_tokenizer(template="inst")).unload()
    assert "edits were made with another chat template: check them" in caplog.text


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_a_blank_name_is_refused_before_a_store_is_made(name, make_model, tokenizer, tmp_path):
    for make in (Editor.create, Editor):
        with pytest.raises(ModelError, match="^name is blank"):
            make(make_model(), tokenizer, MeloConfig(**SETTINGS), tmp_path / "new.melo", name)
    for blank in ("", " ", "half \ud800"):
        with pytest.raises(StoreError, match="give the path of a store's file"):
            Editor.create(make_model(), tokenizer, store=blank)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "metadata", [{1: "a", "1": "b"}, {"x": [{None: 1, "null": 2}]}, {True: 1, "true": 2}, {"a": {1.5: 0, "1.5": 0}}]
)
def test_metadata_of_which_json_would_lose_a_part_is_refused(metadata):
    with pytest.raises(ValueError, match="metadata has two keys that JSON writes as"):
        Edit("Who?", "me", metadata=metadata)
    assert Edit("Who?", "me", metadata={1: "a", "2": "b"}).metadata == {"1": "a", "2": "b"}


def test_a_store_without_the_tokenizers_fingerprint_opens(make_editor, make_model, tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "facts.melo"
    with monkeypatch.context() as patch:
        patch.setattr("meloedit.engine.opening.tokenizer_facts", lambda tokenizer: {})
        make_editor(edits=[BOOK], store=path).unload()
    with Store.open(path) as store:
        assert "tokenizer" not in store.model
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:
        assert editor.ask(BOOK.prompt)[0].text == "Jorge"
