"""``save_pretrained``, ``push_to_hub`` and ``from_pretrained``: nothing is lost, and refusals are one line."""

from pathlib import Path

import pytest
from support.prompts import BOOK, CAPITAL, SETTINGS

from meloedit import Editor, MeloConfig
from meloedit.engine.hub import model_card
from meloedit.errors import ArgumentError, MeloEditError, ModelError, StoreError


@pytest.fixture
def folder(make_editor, tmp_path):
    """A folder of ``save_pretrained`` with one edit."""
    editor = make_editor(edits=[BOOK])
    editor.save_pretrained(tmp_path / "edits")
    editor.unload()
    return tmp_path / "edits"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_store_is_opened_edited_and_saved_where_it_was(folder, make_model, tokenizer):
    with Editor.from_pretrained(folder, make_model(), tokenizer) as editor:
        editor.edit([CAPITAL])
        editor.save_pretrained(folder)
        assert editor.ask(CAPITAL.prompt)[0].route.edit == CAPITAL.id
    assert {"store.melo", "config.json", "README.md"} <= set(contents(folder))
    with Editor.from_pretrained(folder, make_model(), tokenizer) as editor:
        assert len(editor) == 2


def test_an_earlier_save_stays_if_the_new_one_fails(folder, make_editor, make_model, tokenizer):
    before = contents(folder)
    editor = make_editor(edits=[CAPITAL])
    with (
        Editor.from_pretrained(folder, make_model(), tokenizer) as writer,
        writer.store.writing(),
        pytest.raises(StoreError, match="written by another process"),
    ):
        editor.save_pretrained(folder)
    assert contents(folder) == before
    Path(editor.store.path).unlink()
    with pytest.raises(StoreError, match="no store at"):
        editor.save_pretrained(folder)
    editor.unload()
    with pytest.raises(ModelError, match="was unloaded"):
        editor.save_pretrained(folder)
    with pytest.raises(ModelError, match="was unloaded"):
        editor.push_to_hub("owner/name")
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["store.melo", "config.json"])
def test_files_of_something_else_are_not_replaced(name, make_editor, tmp_path):
    (tmp_path / name).write_text("precious")
    with pytest.raises(StoreError, match=f"{name} is not of a store that can be read: choose another folder"):
        make_editor(edits=[BOOK]).save_pretrained(tmp_path)
    assert contents(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("target", ["", 5, None, "a\0b", "file", "file/below", "a" * 300])
def test_a_folder_that_cannot_be_written_is_one_line(target, make_editor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("precious")
    with pytest.raises(MeloEditError, match="^.+$"):
        make_editor(edits=[BOOK]).save_pretrained(target)
    assert contents(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize("error", [OSError("no network\nat all"), KeyError("x"), ValueError("Repo id must be")])
def test_a_push_that_fails_is_one_line(error, make_editor, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    with pytest.raises(StoreError, match="^cannot push to 'owner/name' .*hf auth login.*$"):
        make_editor(edits=[BOOK]).push_to_hub("owner/name")


@pytest.mark.parametrize("store", ["", 5, b"x", "a\0b", "a" * 300])
def test_a_store_at_what_is_no_path_is_one_line(store, make_model, tokenizer):
    with pytest.raises((StoreError, ArgumentError), match="^.+$"):
        Editor.create(make_model(), tokenizer, MeloConfig(**SETTINGS), store=store)
    with pytest.raises((StoreError, ArgumentError), match="^.+$"):
        Editor.from_pretrained(store, make_model(), tokenizer)


def test_a_folder_without_a_store_says_what_it_lacks(tmp_path, make_model, tokenizer):
    with pytest.raises(StoreError, match="is a folder without a store.melo"):
        Editor.from_pretrained(tmp_path, make_model(), tokenizer)


@pytest.mark.parametrize("model", [None, 5, ["a"]])
def test_what_is_no_model_and_no_tokenizer_is_refused(model, make_model, tokenizer):
    with pytest.raises(ModelError, match="give a loaded model, or the folder or hub name of one"):
        Editor.create(model, tokenizer)
    with pytest.raises(ModelError, match="give the model's tokenizer, loaded, not 'gpt2'"):
        Editor.create(make_model(), "gpt2")


def test_options_that_would_be_ignored_are_refused(folder, make_model, tokenizer):
    with pytest.raises(ModelError, match="dtype: only for a model that is loaded here"):
        Editor.create(make_model(), tokenizer, dtype="float16")
    with pytest.raises(ModelError, match="a store that is opened has its settings"):
        Editor.from_pretrained(folder, make_model(), tokenizer, config=MeloConfig(rank=4))


@pytest.mark.parametrize(
    "name, base",
    [
        ("owner/name", "owner/name"),
        ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/a/folder", None),
        ("here/model", None),
    ],
)
def test_a_card_links_to_a_model_on_the_hub_alone(name, base, make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here/model").mkdir(parents=True)
    with Editor(make_model(), tokenizer, MeloConfig(**SETTINGS), tmp_path / "a.melo", name) as editor:
        card = model_card(editor.store)
    assert card.data.base_model == base and (f"https://huggingface.co/{base}" in card.text) == (base is not None)
    assert f"| base model | {name}," in card.text
