"""Exported edits taken in again: bit-equal blocks, no training, and nothing that a hand has changed."""

import json

import pytest
import torch
from support.prompts import BOOK, CAPITAL, FACTS, OTHERS

from meloedit import Edit
from meloedit.adapters import read_index
from meloedit.adapters.index import Index
from meloedit.errors import EditError, MeloEditError

pytest_plugins = ["adapter_fixtures"]


@pytest.fixture(scope="module")
def exported(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    plain.export(folder)
    return folder


@pytest.fixture(scope="module")
def empty(make_plain):
    """An editor without edits; what is refused leaves it so."""
    editor = make_plain()
    editor.prepare()
    yield editor
    assert len(editor) == 0
    editor.unload()


def changed(folder, tmp_path, path, change):
    """Copy an export with one file changed."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            (tmp_path / file.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(folder)).write_bytes(file.read_bytes())
    (tmp_path / path).write_bytes(change((tmp_path / path).read_bytes()))
    return tmp_path


def test_what_comes_back_is_what_was_exported(plain, exported, make_plain, tmp_path):
    editor = make_plain()
    made = editor.import_adapters(exported)
    assert made.stored == tuple(fact.id for fact in FACTS) and made.skipped == made.replaced == ()
    assert editor.history()[-1].action == "import" and [one.edit for one in editor] == FACTS
    for fact in FACTS:
        (old, _), (new, _) = (one.store.tensors([fact.id])[fact.id] for one in (plain, editor))
        assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    assert editor.check().broken == []
    prompts = [fact.prompt for fact in FACTS] + OTHERS
    assert [a.text for a in editor.ask(prompts)] == [a.text for a in plain.ask(prompts)]
    # what was put right since comes along, and is no other edit
    editor.quiet("book", OTHERS[0])
    editor.allow("legs", "Count the legs of a spider.")
    editor.export(tmp_path)
    assert sorted(editor.import_adapters(tmp_path).skipped) == sorted(made.stored)
    other = make_plain()
    other.import_adapters(tmp_path)
    assert [one.edit for one in other] == [one.edit for one in editor]
    assert sorted(one.given.id for one in other) == sorted(made.stored) and all(one.given in FACTS for one in other)
    other.unload()
    # again: nothing to do
    revision = editor.store.revision
    again = editor.import_adapters(exported)
    assert again.stored == () and again.skipped == made.stored and again.revision == revision
    editor.unload()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "meloedit.json"])
def test_an_adapter_that_a_hand_changed_is_refused(exported, empty, tmp_path, name):
    adapter = read_index(exported).entries[1].adapter
    folder = changed(exported, tmp_path, f"{adapter}/{name}", lambda data: data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
    with pytest.raises(MeloEditError, match=rf"{adapter}/{name} was changed since it was exported .*checksum differs"):
        empty.import_adapters(folder)
    (folder / adapter / name).unlink()
    with pytest.raises(MeloEditError, match=rf"{name} cannot be read \(No such file"):
        empty.import_adapters(folder)


def test_an_index_that_a_hand_changed_is_refused(exported, empty, tmp_path):
    folder = changed(exported, tmp_path, "index.json", lambda data: data.replace(b"Jorge", b"Borge"))
    with pytest.raises(MeloEditError, match=r"index.json was changed since it was written \(its checksum differs\)"):
        empty.import_adapters(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(MeloEditError, match="is damaged: it is no JSON"):
        empty.import_adapters(folder)
    (folder / "index.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(MeloEditError, match="is no index of meloedit's"):
        empty.import_adapters(folder)
    with pytest.raises(MeloEditError, match="is no folder of adapters: index.json cannot be read"):
        empty.import_adapters(tmp_path / "nowhere")


def rewritten(exported, tmp_path, **changes):
    """Write an index with sound checksums that says something else, as somebody might who means harm."""
    index = read_index(exported)
    values = {name: changes.get(name, getattr(index, name)) for name in Index.__dataclass_fields__}
    folder = changed(exported, tmp_path, "index.json", lambda _: Index(**values).to_bytes())
    return folder


def test_adapters_of_another_model_or_several_in_one_are_refused(exported, empty, tmp_path):
    model = dict(read_index(exported).model) | {"fingerprint": "0123"}
    with pytest.raises(MeloEditError, match=r"is of the model .* \(fingerprint 0123\).* a store of its own model"):
        empty.import_adapters(rewritten(exported, tmp_path, model=model))
    with pytest.raises(MeloEditError, match="fused into one adapter, which cannot be taken apart"):
        empty.import_adapters(rewritten(exported, tmp_path, kind="fused"))
    entries = read_index(exported).entries
    swapped = (
        type(entries[0])(entries[0].edit, entries[0].given, entries[1].adapter, entries[0].manifest, {}),
        *entries[1:],
    )
    with pytest.raises(MeloEditError, match="was changed since it was exported"):
        empty.import_adapters(rewritten(exported, tmp_path, entries=swapped))


def test_adapters_of_other_modules_are_refused(exported, make_plain):
    editor = make_plain(layers=1)
    with pytest.raises(
        MeloEditError, match="is of no edited module of this store; the edited modules must be the same"
    ):
        editor.import_adapters(exported)
    assert len(editor) == 0
    editor.unload()


def test_an_edit_that_is_there_with_other_content(exported, make_plain):
    editor = make_plain([Edit(BOOK.prompt, "Lima", id="book"), Edit("Name a lake.", "Como", id="lake")])
    with pytest.raises(EditError, match="edit 'book' is in the store with other content"):
        editor.import_adapters(exported)
    assert len(editor) == 2
    made = editor.import_adapters(exported, replace=True)
    assert made.stored == tuple(fact.id for fact in FACTS)
    assert editor.ask(BOOK.prompt)[0].text == BOOK.target and editor.ask(CAPITAL.prompt)[0].route.edit == "capital"
    assert sorted(one.edit.id for one in editor) == ["book", "capital", "lake", "legs"]
    editor.unload()
