"""Classifiers: labels as targets, long texts, and the scope of documents."""

import pytest
import torch
from support.encoder_checks import assert_same_portrait, portrait
from support.prompts import BOOK, CASES, LEGS, OTHERS
from support.tiny_models import END, LABELS

from meloedit import Edit, Editor
from meloedit.errors import EditError, ModelError
from meloedit.keys.grammar import make_prompts


@pytest.fixture(scope="module")
def bert(make_source_editor):
    editor = make_source_editor("bert", CASES)
    yield editor
    editor.unload()


DOCUMENT = "The court finds that the tenant of the old mill owes the owner of the river bank a part of the harvest."


@pytest.mark.parametrize("target", ["labour", " labour ", "3", 3])
def test_a_label_by_name_or_by_number(make_source_editor, target):
    editor = make_source_editor("bert")
    (report,) = editor.edit(Edit(DOCUMENT, target, id="case"))
    assert report.holds and editor.edits()[0].edit.target == "labour"
    assert editor.ask(DOCUMENT)[0].text == "labour" and editor.ask(DOCUMENT)[0].tokens == 0
    assert editor.edit(Edit(DOCUMENT, "labour", id="case"))[0].status == "skipped"  # the same edit, in other words
    with pytest.raises(EditError, match="other content"):
        editor.edit(Edit(DOCUMENT, "tax", id="case"))
    (report,) = editor.edit(Edit(DOCUMENT, 0, id="newer"))
    assert report.replaced == ["case"] and editor.ask(DOCUMENT)[0].text == "civil rights"
    editor.unload()


@pytest.mark.parametrize("target", ["Labour", "5", "-1", "labour law"])
def test_an_unknown_label_is_answered_with_those_there_are(bert, target):
    with pytest.raises(EditError) as error:
        bert.edit([CASES[0], Edit(DOCUMENT, target, id="case")])
    assert str(error.value) == (
        f"edit 'case': BertForSequenceClassification has no label {target!r}; its labels are: "
        "0 civil rights, 1 crime, 2 economy, 3 labour, 4 tax"
    )
    assert LABELS == ("civil rights", "crime", "economy", "labour", "tax")


def test_a_label_whose_name_is_a_number_is_taken_by_name(make_source, make_source_editor):
    names = {i: str(4 - i) for i in range(5)}
    model, _ = make_source("bert", id2label=names, label2id={name: i for i, name in names.items()})
    editor = make_source_editor("bert", model=model)
    assert editor.edit(Edit(DOCUMENT, 1))[0].holds
    assert editor.edits()[0].edit.target == "1" and editor.ask(DOCUMENT)[0].text == "1"
    with torch.no_grad():
        assert editor.model(torch.tensor([editor.backbone.encode(DOCUMENT).ids])).logits.argmax().item() == 3
    editor.unload()


def test_two_labels_for_one_text_contradict(bert):
    with pytest.raises(EditError, match="edit 2 contradicts edit 1"):
        bert.edit([Edit(DOCUMENT, "tax"), Edit(DOCUMENT, 1)])


def test_texts_are_cut(make_source_editor):
    editor = make_source_editor("bert", document_tokens=12)
    ids = editor.backbone.encode(DOCUMENT).ids
    assert len(ids) == 12 and ids[0] == 2 and ids[-1] == END
    assert editor.edit(Edit(DOCUMENT, "labour"))[0].holds
    same, other = DOCUMENT[:60] + " and much more.", "And so, " + DOCUMENT
    assert editor.backbone.encode(same).ids == ids
    assert [answer.text == "labour" for answer in editor.ask([DOCUMENT, same])] == [True, True]
    assert [route.reason for route in editor.route([DOCUMENT, same, other])] == ["fired", "fired", "outside scope"]
    editor.unload()
    editor = make_source_editor("bert")  # to what the model takes
    assert len(editor.backbone.encode("word " * 300).ids) == 64
    assert editor.edit(Edit("word " * 300, "labour"))[0].holds
    assert editor.ask("word " * 400)[0].text == "labour"
    editor.unload()


def test_positions_that_stand_for_padding_are_not_counted(make_source_editor):
    editor = make_source_editor("roberta")
    config = editor.model.config
    assert editor.backbone.max_length == config.max_position_embeddings - 1 - config.pad_token_id
    assert editor.ask("word " * 200)[0].text in editor.backbone.labels


def test_without_documents_only_near_exact_repeats_fire(bert):
    assert bert.calibration.info["scope"] == "near-exact" and len(bert.calibration.prompts) == 0
    assert bert.threshold == pytest.approx((2 - 2 * 0.97) ** 0.5, abs=1e-6)
    changed = ["Who wrote the book of salt?", "Who wrote a book of sand", "How many arms has a spider?"]
    routes = bert.route([BOOK.prompt, LEGS.prompt, *changed])
    assert [route.edit for route in routes] == ["book", "legs", None, None, None]
    assert [route.nearest for route in routes] == ["book", "legs", "book", "book", "legs"]


def test_document_similarity_sets_how_near(make_source_editor):
    editor = make_source_editor("bert", CASES, document_similarity=-1.0)
    assert [route.edit for route in editor.route([BOOK.prompt, LEGS.prompt])] == ["book", "legs"]
    assert all(route.edit for route in editor.route(OTHERS))
    editor.unload()


def test_calibrating_on_documents(make_source_editor, make_source, tmp_path):
    editor = make_source_editor("bert", CASES, store=tmp_path / "a.melo", false_activation=0.1)
    near = editor.threshold
    documents = [
        f"{text} {other}" for text, other in zip(make_prompts(80, seed=1), make_prompts(80, seed=2), strict=True)
    ]
    editor.calibrate(documents, origin="documents")
    assert editor.calibration.info == {"source": "documents", "prompts": 80, "keys": 80}
    assert editor.threshold > near
    assert [answer.text for answer in editor.ask([edit.prompt for edit in CASES])] == ["tax", "economy", "labour"]
    fired = sum(route.edit is not None for route in editor.route(documents))
    assert 1 <= fired <= 8  # one in ten at most
    threshold, expected = editor.threshold, portrait(editor)
    editor.unload()
    again = Editor.from_pretrained(tmp_path / "a.melo", *make_source("bert"))
    assert again.threshold == threshold
    assert_same_portrait(portrait(again), expected)
    again.calibrate()  # back to the built-in prompts
    assert again.threshold == pytest.approx(near) and again.calibration.info["scope"] == "near-exact"
    again.unload()


@pytest.mark.parametrize(
    "changes",
    [
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
        {"id2label": {0: "score"}, "label2id": {"score": 0}},
    ],
    ids=["multi-label", "regression", "one label"],
)
def test_a_model_that_does_not_choose_one_label_is_refused(make_source, changes):
    model, tokenizer = make_source("bert", **changes)
    with pytest.raises(ModelError, match="BertForSequenceClassification does not choose one of several labels"):
        Editor(model, tokenizer)
