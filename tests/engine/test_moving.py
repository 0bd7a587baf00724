"""A store and another copy of its model: refused with what to do, or moved with its keys made again."""

import pytest
import torch
from support.gguf_files import write_gguf
from support.prompts import BOOK, EDITS, OTHERS, SETTINGS

from meloedit import Editor, MeloConfig
from meloedit.backbones.loading import load_model
from meloedit.errors import MeloEditError, ModelError, StoreError
from meloedit.store import Record, Store

SIZE = {"hidden_size": 32, "intermediate_size": 64}


@pytest.fixture(scope="module")
def copies(make_model, tokenizer, tmp_path_factory):
    """A store made on a float32 model, and other copies of the model: half, and read from its Q8_0 GGUF file."""
    folder = tmp_path_factory.mktemp("copies")
    model = make_model(**SIZE)
    write_gguf(model, tokenizer, folder / "model-q8.gguf")
    editor = Editor(model, tokenizer, MeloConfig(**SETTINGS), store=folder / "facts.melo")
    assert all(report.holds for report in editor.edit(EDITS))
    editor.unload()
    return folder


def copy_of(copies, tmp_path):
    with Store.open(copies / "facts.melo") as store:
        store.copy(tmp_path / "facts.melo")
    return tmp_path / "facts.melo"


def other_copy(kind, copies, make_model, tokenizer):
    if kind == "gguf":
        return load_model(str(copies / "model-q8.gguf"))
    return make_model(**SIZE).half(), tokenizer


@pytest.mark.parametrize("kind", ["gguf", pytest.param("half", marks=pytest.mark.slow)])
def test_a_store_is_refused_on_another_copy_and_moves_with_rekey(kind, copies, make_model, tokenizer, tmp_path):
    path = copy_of(copies, tmp_path)
    model, its_tokenizer = other_copy(kind, copies, make_model, tokenizer)
    with pytest.raises(StoreError, match=r"was made for .*fingerprint.*--rekey.*rekey=True") as refused:
        Editor(model, its_tokenizer, store=Store.open(path))
    assert "\n" not in str(refused.value)
    before = Store.open(path).revision
    editor = Editor.from_pretrained(path, model, its_tokenizer, rekey=True)
    try:
        assert editor.store.revision == before + 1 and editor.history()[-1].action == "move"
        answers = editor.ask([edit.prompt for edit in EDITS], max_new_tokens=8)
        assert [answer.route.edit for answer in answers] == [edit.id for edit in EDITS]
        held = {broken.id for broken in editor.check().broken}
        assert all(answer.text == edit.target for answer, edit in zip(answers, EDITS, strict=True)), held
        assert [route.edit for route in editor.route(OTHERS)] == [None] * len(OTHERS)
        editor.calibrate(false_activation=0.05)  # what is calibrated later stays with the copy
        with pytest.raises(StoreError, match="moved"):
            editor.rollback(before)
    finally:
        editor.unload()
    again = Editor(model, its_tokenizer, store=Store.open(path))
    assert again.ask(BOOK.prompt, max_new_tokens=8)[0].route.edit == BOOK.id
    again.unload()
    with pytest.raises(StoreError, match="--rekey"):  # and its first model is now the other copy
        Editor(make_model(**SIZE), tokenizer, store=Store.open(path))
    with Store.open(path) as store:
        store.rollback(before)
    back = Editor(make_model(**SIZE), tokenizer, store=Store.open(path))
    assert back.ask(BOOK.prompt, max_new_tokens=8)[0].text == BOOK.target
    back.unload()


def dynamic(make_model):
    return torch.ao.quantization.quantize_dynamic(make_model(**SIZE), {torch.nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_modules_that_quantise_all_rows_by_one_scale_are_refused(copies, make_model, tokenizer, tmp_path):
    """An edited row would change the others of its batch, so no copy of this kind can take a store."""
    path = copy_of(copies, tmp_path)
    for make in (
        lambda: Editor(dynamic(make_model), tokenizer, MeloConfig(**SETTINGS)),
        lambda: Editor.from_pretrained(path, dynamic(make_model), tokenizer, rekey=True),
    ):
        with pytest.raises(
            ModelError, match="one scale.*quantise weights alone|quantised by torch.ao.quantization"
        ) as refused:
            make()
        assert "\n" not in str(refused.value)


def test_a_store_opens_on_the_bfloat16_copy_with_a_warning(copies, make_model, tokenizer, tmp_path, caplog):
    editor = Editor(make_model(**SIZE).bfloat16(), tokenizer, store=Store.open(copy_of(copies, tmp_path)))
    assert "made in torch.float32, the model is in torch.bfloat16: check them" in caplog.text
    answers = editor.ask([edit.prompt for edit in EDITS], max_new_tokens=8)
    assert [answer.route.edit for answer in answers] == [edit.id for edit in EDITS]
    editor.unload()


def test_edits_that_no_longer_hold_are_named(copies, make_model, tokenizer, tmp_path, caplog):
    path = copy_of(copies, tmp_path)
    model = make_model(**SIZE)
    with torch.no_grad():  # no copy at all: the blocks mean nothing there
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    editor = Editor.from_pretrained(path, model, tokenizer, rekey=True)
    assert "4 of 4 edits do not hold on this model: book, capital" in caplog.text
    assert len(editor) == 4
    editor.unload()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "blocks of .*down_proj are for 64 inputs and 32 outputs, this model has 64 and 64"),
        ({"num_hidden_layers": 3}, "no linear module .*layers.3"),
    ],
)
def test_another_model_is_no_copy(changes, message, copies, make_model, tokenizer, tmp_path):
    path = copy_of(copies, tmp_path)
    before = path.read_bytes()
    model = make_model(**SIZE | changes)
    with pytest.raises(MeloEditError, match=message) as refused:
        Editor.from_pretrained(path, model, tokenizer, rekey=True)
    assert "\n" not in str(refused.value) and path.read_bytes() == before
    assert not hasattr(model, "_meloedit_router")


def test_a_block_without_a_factor_is_not_moved(copies, make_model, tokenizer, tmp_path):
    path = copy_of(copies, tmp_path)
    store = Store.open(path)
    stored = store.edits()[0]
    block, keys = store.tensors([stored.edit.id])[stored.edit.id]
    whole = {name: tensor for name, tensor in block.items() if name != min(block)}
    store.put([Record(stored.edit, stored.rank, stored.reach, {}, whole, keys)], removed=["capital", "legs", "river"])
    with pytest.raises(
        StoreError, match=rf"is damaged \(the block of edit '{stored.edit.id}': {min(block)} is missing"
    ):
        Editor.from_pretrained(path, make_model(**SIZE).half(), tokenizer, rekey=True)


def test_a_store_in_paper_mode_stays_where_it_is(make_paper, make_model, tokenizer, tmp_path):
    make_paper("gpt2", EDITS[:2], store=tmp_path / "paper.melo").unload()
    with pytest.raises(StoreError, match="paper mode.*--rekey"):
        Editor.from_pretrained(tmp_path / "paper.melo", make_model("gpt2").half(), tokenizer, rekey=True)


def test_a_gguf_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF, but not really")
    for name in ("broken.gguf", "missing.gguf"):
        with pytest.raises(ModelError) as refused:
            load_model(str(tmp_path / name))
        assert "\n" not in str(refused.value)
