"""Editor in the ecosystem's sense: make, open, save as a folder, look into it like a collection, leave the model."""

import pytest
import torch
from support.prompts import BOOK, CAPITAL, LEGS, SETTINGS

from meloedit import Editor, MeloConfig
from meloedit.errors import EditError, MeloEditError, ModelError, StoreError, UnknownEditError


def test_create_makes_a_store_and_from_pretrained_opens_it(make_model, tokenizer, tmp_path):
    path = tmp_path / "facts.melo"
    with Editor.create(make_model(), tokenizer, MeloConfig(**SETTINGS), store=path) as editor:
        assert editor.edit([BOOK, CAPITAL])[0].holds
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:
        assert [stored.edit.id for stored in editor] == ["book", "capital"]
    with pytest.raises(StoreError, match="exists already: open it with Editor.from_pretrained"):
        Editor.create(make_model(), tokenizer, store=path)
    with pytest.raises(ModelError, match="needs its tokenizer"):
        Editor.create(make_model())


def test_an_editor_is_a_collection_of_its_edits(make_editor):
    editor = make_editor()
    assert len(editor) == 0 and editor
    editor.edit([BOOK, CAPITAL])
    assert len(editor) == 2 and "book" in editor and "legs" not in editor and 3 not in editor
    assert editor["capital"].edit == CAPITAL
    assert repr(editor).startswith("Editor(LlamaForCausalLM, default mode, 2 edits, revision 3, ")
    with pytest.raises(KeyError) as error:
        editor["capitol"]
    assert isinstance(error.value, UnknownEditError) and isinstance(error.value, StoreError)
    assert str(error.value).endswith("has no edit 'capitol'; did you mean 'capital'?")
    editor.unload()


def test_errors_are_also_what_python_calls_them(make_editor):
    with pytest.raises(ValueError, match="prompt is empty"):
        make_editor().ask("")
    with pytest.raises(ValueError, match="rank must be a positive integer"):
        MeloConfig(rank=0)
    assert issubclass(EditError, MeloEditError) and issubclass(UnknownEditError, MeloEditError)


def test_a_folder_holds_store_settings_and_card(make_editor, make_model, tokenizer, tmp_path):
    editor = make_editor(edits=[BOOK, CAPITAL])
    said = editor.ask([BOOK.prompt, LEGS.prompt])
    for _ in range(2):  # a second time in place of the first
        editor.save_pretrained(tmp_path / "edits")
    editor.unload()
    assert {path.name for path in (tmp_path / "edits").iterdir()} - {"store.melo.lock"} == {
        "store.melo",
        "config.json",
        "README.md",
    }
    card = (tmp_path / "edits" / "README.md").read_text()
    assert (
        "base_model" not in card
        and "Edits of LlamaForCausalLM" in card
        and "| book | Who wrote the book of sand? | Jorge |" in card
    )
    with Editor.from_pretrained(tmp_path / "edits", make_model(), tokenizer) as again:
        assert again.ask([BOOK.prompt, LEGS.prompt]) == said


@pytest.mark.parametrize("name", ["none.melo", "a/b/none.melo", "./none"])
def test_a_store_that_is_not_there_is_one_line(name, make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError) as error:
        Editor.from_pretrained(name, make_model(), tokenizer)
    assert str(error.value).startswith("no store at ") and "\n" not in str(error.value)


def test_a_repository_that_cannot_be_reached_is_one_line(make_model, tokenizer, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr("meloedit.engine.hub.hf_hub_download", offline)
    with pytest.raises(StoreError, match=r"^no store at owner/name: .* \(no network at all\)$"):
        Editor.from_pretrained("owner/name", make_model(), tokenizer)


def test_generate_is_the_models_and_base_model_sees_no_edit(make_editor, make_model, tokenizer):
    editor = make_editor(edits=[BOOK])
    inputs = tokenizer(BOOK.prompt, return_tensors="pt")
    edited = editor.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=1)
    assert tokenizer.decode(edited[0], skip_special_tokens=True).endswith("Jorge")
    with editor.base_model():
        plain = editor.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=1)
    assert torch.equal(plain, make_model().generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=1))
    model = editor.unload()
    assert torch.equal(model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=1), plain)
    for use in (lambda: len(editor), lambda: editor.generate(**inputs), lambda: editor.ask("Is it late?")):
        with pytest.raises(ModelError, match="was unloaded"):
            use()
    assert editor.unload() is model and repr(editor) == "Editor(unloaded)"  # again: nothing to do
