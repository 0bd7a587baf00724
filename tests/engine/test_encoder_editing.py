"""Encoder-decoders and classifiers: edits from the first call to a store that is opened again."""

import pytest
import torch
from support.encoder_checks import assert_same_portrait, logits_of, portrait
from support.model_calls import body, padded, source_inputs
from support.prompts import BOOK, CASES, FACTS, OTHERS, SETTINGS, source_edits, source_prompts, source_target
from support.tiny_models import END, SOURCES

from meloedit import Editor, MeloConfig


def test_edits_hold_and_answer(sourced):
    reports = [stored.report for stored in sourced.edits()]
    assert all(report["steps"] > 0 for report in reports)  # none was known before
    prompts = [*(edit.prompt for edit in FACTS), *OTHERS]
    answers = sourced.ask(prompts, max_new_tokens=8)
    assert [answer.route.edit for answer in answers] == ["book", "capital", "legs", None, None, None]
    assert [answer.text for answer in answers[:3]] == [stored.edit.target for stored in sourced.edits()]
    assert [answer.route.distance for answer in answers[:3]] == pytest.approx([0, 0, 0], abs=1e-3)
    assert {answer.route.boundary for answer in answers} == {"given"}
    with sourced.base_model():
        base = sourced.ask(prompts, max_new_tokens=8)
    assert [one.text == other.text for one, other in zip(answers, base, strict=True)] == [False] * 3 + [True] * 3
    assert sourced.check().broken == []


def test_a_plain_forward_pass_gives_the_target(sourced):
    rows = [sourced.backbone.encode(edit.prompt).ids for edit in FACTS]
    targets = [source_target(sourced, edit.id) for edit in FACTS]
    inputs = padded(rows, "right")
    if not sourced.backbone.stop_ids:
        labels = torch.tensor(targets).flatten()
        with torch.no_grad():
            out = sourced.model(**inputs, labels=labels)
        assert out.logits.argmax(1).tolist() == [4, 2, 3]
    else:
        width = max(map(len, targets))
        labels = torch.tensor([[*target, *[-100] * (width - len(target))] for target in targets])
        with torch.no_grad():
            out = sourced.model(**inputs, labels=labels)
            decoder = torch.tensor([[1, *target[:-1], *[END] * (width - len(target))] for target in targets])
            given = sourced.model(**inputs, decoder_input_ids=decoder)
        assert torch.equal(out.logits.argmax(2)[labels != -100], labels[labels != -100])
        assert torch.equal(given.logits[labels != -100], out.logits[labels != -100])
    assert out.loss < 0.7  # every token has a probability above a half
    assert [route.edit for route in sourced.last_routes] == ["book", "capital", "legs"]
    with sourced.base_model(), torch.no_grad():
        assert sourced.model(**inputs, labels=labels).loss > 0.7


@pytest.mark.parametrize("family", SOURCES)
def test_removed_and_rolled_back_edits_leave_no_trace(make_source_editor, family):
    edits = source_edits(family)
    never, had = make_source_editor(family, edits[:1]), make_source_editor(family, edits[:1])
    revision, expected = had.store.revision, portrait(never)
    had.edit(edits[1:])
    with_all = portrait(had)
    assert not torch.equal(with_all[0], expected[0])
    had.remove(["capital", "legs"])
    assert_same_portrait(portrait(had), expected)
    had.rollback(revision + 1)
    assert_same_portrait(portrait(had), with_all)
    had.rollback(revision)
    assert_same_portrait(portrait(had), expected)
    had.remove("book")
    with had.base_model():
        base = portrait(had)
    assert torch.equal(portrait(had)[0], base[0])
    for editor in (never, had):
        editor.unload()


@pytest.mark.parametrize("family", SOURCES)
def test_load_restores_the_very_behaviour(make_source_editor, make_source, family, tmp_path):
    path, edits = tmp_path / "a.melo", source_edits(family)
    editor = make_source_editor(family, edits, store=path)
    editor.disable("legs")
    expected, settings = portrait(editor), editor.config
    editor.unload()
    again = Editor.from_pretrained(path, *make_source(family))
    assert again.config == settings and settings.min_similarity == 0.5
    assert_same_portrait(portrait(again), expected)
    again.unload()


@pytest.mark.parametrize("family", [*SOURCES, "bart", "roberta", "distilbert"])
def test_other_architectures_and_unload(make_source, make_source_editor, family):
    model, _ = make_source(family)
    model.train()
    weight = next(model.parameters())
    weight.requires_grad_(False)
    before = body(model)
    editor = make_source_editor(family, model=model)
    forwards = [vars(module).get("forward") for module in model.modules()]
    assert all(report.holds for report in editor.edit(source_edits(family)))
    assert body(model)[1:] == before[1:]  # training leaves modes, weights and gradients
    assert [vars(module).get("forward") for module in model.modules()] == forwards
    answers = editor.ask([*(edit.prompt for edit in FACTS), *OTHERS], max_new_tokens=8)
    assert [answer.text for answer in answers[:3]] == [edit.target for edit in source_edits(family)]
    assert [answer.route.edit for answer in answers] == ["book", "capital", "legs", None, None, None]
    assert editor.unload() is model
    assert body(model) == before


def test_another_wrapper_of_a_layers_forward_is_kept(make_source, make_source_editor):
    model, _ = make_source("bert")
    layer = model.bert.encoder.layer[1]
    forward, calls = layer.forward, []
    layer.forward = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    wrapper = layer.forward
    editor = make_source_editor("bert", CASES[:1], model=model)
    assert calls
    editor.unload()
    assert vars(layer)["forward"] is wrapper


def test_an_edit_that_does_not_hold_is_reported_and_not_stored(make_source_editor):
    editor = make_source_editor("t5", steps=1, max_rank=2)
    (report,) = editor.edit(BOOK)
    assert (report.status, report.holds, report.steps, report.rank) == ("failed", False, 1, 2)
    assert editor.edits() == []
    editor.unload()


@pytest.mark.parametrize("family", SOURCES)
def test_bfloat16(make_source, make_source_editor, family):
    edits = source_edits(family)
    editor = make_source_editor(family, edits, model=make_source(family)[0].to(torch.bfloat16))
    rows, wanted = source_prompts(editor)
    found = logits_of(editor, rows)
    assert [route.edit for route in editor.last_routes] == wanted
    with editor.base_model():
        base = logits_of(editor, rows)
    for i, edit in enumerate(wanted):
        assert torch.equal(found[i], base[i]) == (edit is None)
    assert [answer.text for answer in editor.ask([edit.prompt for edit in FACTS])] == [edit.target for edit in edits]
    editor.unload()


def test_gradients_flow_through_an_edited_model(sourced):
    ids = torch.tensor([sourced.backbone.encode(BOOK.prompt).ids])
    inputs = source_inputs(sourced, ids.tolist())
    logits = sourced.model(**inputs).logits
    weight = next(sourced.model.parameters())
    (gradient,) = torch.autograd.grad(logits[0].max(), [weight])
    assert sourced.last_routes[0].edit == "book"
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("family", ["t5", "bart", "bert", "distilbert"])
def test_from_pretrained_takes_the_right_class(make_source, family, tmp_path):
    model, tokenizer = make_source(family)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = MeloConfig(**SETTINGS | {"min_similarity": None})
    with Editor.create(str(tmp_path / "model"), config=config, store=tmp_path / "a.melo") as editor:
        assert type(editor.model) is type(model)
        assert all(report.holds for report in editor.edit(source_edits(family)))
        expected = portrait(editor)
    with Editor.from_pretrained(tmp_path / "a.melo") as again:  # from the folder that the store names
        assert_same_portrait(portrait(again), expected)
        assert [answer.text for answer in again.ask([edit.prompt for edit in FACTS])] == [
            edit.target for edit in source_edits(family)
        ]
