"""SERAC's rule and loss on numbers worked by hand; its counterfactual model; what it reads."""

import math

import pytest
import torch
from support.prompts import EDITS, OTHERS, source_edits

from meloedit import Edit
from meloedit.backbones import open_backbone
from meloedit.backbones.contexts import record_calls
from meloedit.backbones.shortened import kept_layers, shortened
from meloedit.errors import MeloEditError
from meloedit.methods import method_class
from meloedit.methods.learned.lessons import make_lessons
from meloedit.methods.learned.scope import balanced_loss, log_similarities
from meloedit.methods.learned.serac import Record
from meloedit.testing import training_edits

SETTINGS = {"steps": 4, "batch_size": 4, "val_interval": 4, "val_examples": 0, "layers": 2, "scale": 12.0}


def test_similarity_is_the_exponential_of_the_squared_distance():
    queries, keys = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert log_similarities(queries, keys, 0.5).tolist() == [[0.0, -0.5, -1.0], [-2.5, -2.0, -0.5]]


def test_the_loss_is_the_mean_over_pairs_in_scope_plus_that_over_others():
    inside, outside = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.5, 0.75, 0.75, 0.5]).log()
    expected = 1.5 * math.log(2) + (2 * math.log(2) + 2 * math.log(4)) / 4
    assert balanced_loss(inside, outside).item() == pytest.approx(expected)
    assert balanced_loss(inside, torch.zeros(1)).isfinite()  # a prompt that is the edit's own


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "t5", "bart", "bert"])
def test_the_counterfactual_model_has_the_first_layers_and_the_last(family, make_model, make_source, tokenizer):
    if family in ("llama", "qwen3", "gpt2"):
        model, reader = make_model(family), tokenizer
    else:
        model, reader = make_source(family)
    backbone = open_backbone(model, reader)
    layers = [list(stack) for _, stack in backbone.stacks]
    short = open_backbone(shortened(backbone, 3), reader)
    assert [list(stack) for _, stack in backbone.stacks] == layers
    for mine, (_, stack) in zip(layers, short.stacks, strict=True):
        assert len(stack) == 3
        for old, new in zip([mine[0], mine[1], mine[-1]], stack, strict=True):
            pairs = zip(old.parameters(), new.parameters(), strict=True)
            assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    answers = short.answer(
        short.pad([row for row in _rows(short, family)]),
        {"max_new_tokens": 4, "do_sample": False, "pad_token_id": short.pad_id},
    )
    assert len(answers) == 2


def _rows(backbone, family):
    from meloedit.backbones.batch import Example

    return [Example.of(backbone.encode(edit.prompt)) for edit in source_edits(family)[:2]]


def test_fewer_layers_than_asked_for_are_all_kept():
    assert kept_layers(3, 6) == [0, 1, 2] and kept_layers(30, 6) == [0, 1, 2, 3, 4, 29] and kept_layers(5, 1) == [4]


@pytest.fixture
def serac(make_model, tokenizer, tiny_encoder, tmp_path):
    def make(**changes):
        settings = SETTINGS | {"encoder": tiny_encoder, "learned": str(tmp_path)} | changes
        method = method_class("serac")(make_model("llama"), tokenizer, settings)
        method.fit(training_edits("llama"))
        return method

    return make


def test_learning_pads_little_and_reads_the_vocabulary_at_targets_alone(serac):
    method = serac()
    lessons = make_lessons(method, training_edits("llama", 4), 0, 0)
    head = method.counterfactual.model.get_output_embeddings()
    with record_calls([head]) as read, record_calls([method.scope.model]) as encoded:
        method._lesson_loss(lessons, 0)
    targets = sum(len(lesson.inner.target) for lesson in lessons)
    assert [call.args[0].shape[:2] for call in read] == [(1, targets)]
    texts = [[method._key_text(record) for record in _records(lessons)]]
    texts += [[lesson.held for lesson in lessons]]
    widths = [method.scope._tokenizer(one, padding=True, return_tensors="pt")["input_ids"].shape for one in texts]
    shapes = [call.kwargs["input_ids"].shape for call in encoded]
    assert [shapes[0], shapes[2]] == widths and len(shapes) == 3


def _records(lessons):
    return [Record(lesson.edit.id, lesson.edit.prompt, lesson.edit.target) for lesson in lessons]


def test_an_edit_answers_above_the_threshold_alone_and_the_route_says_why(serac):
    method = serac()
    method.edit(EDITS[:2])
    (route,) = method.route([EDITS[0].prompt])
    similarity = math.exp(-12.0 * route.distance)
    assert route.edit == "book" and similarity > 0.5 and route.threshold == pytest.approx(math.log(2) / 12)
    strict = serac(threshold=similarity + 1e-3)
    strict.edit(EDITS[:2])
    (route,) = strict.route([EDITS[0].prompt])
    assert (route.edit, route.nearest, route.reason) == (None, "book", "outside scope")


def test_the_counterfactual_model_reads_the_edit_and_then_the_prompt(serac):
    method = serac(context_words=3)
    method.edit([Edit("Who wrote the book of sand?", "Jorge", id="book", variants=["Sand, by whom?"])])
    first, second = method._records
    read = method._read("Is it late?", first)
    assert method.backbone.decode(read.ids) == "book of sand? Jorge\nIs it late?"
    assert (second.prompt, second.edit) == ("Sand, by whom?", "book") and len(method._keys) == 2
    long = "Is it late? " * 20  # what has no room with the whole edit is read with less of it
    fits = method.backbone.encode(f"sand? Jorge\n{long}").ids
    method.counterfactual.max_length = len(fits) + 32
    assert method._read(long, first).ids == fits
    method.counterfactual.max_length = len(method.backbone.encode(long).ids) + 2
    assert method._read(long, first).ids == method.backbone.encode(long).ids
    method.counterfactual.max_length = 256
    chat = method._read([{"role": "user", "content": "Is it late?"}], first)
    assert chat.form == "chat" and "Jorge\nIs it late?" in method.backbone.decode(chat.ids)


def test_an_edit_that_is_made_anew_takes_the_place_of_the_old_one(serac, tmp_path):
    method = serac()
    method.folder = tmp_path / "state"
    method.edit(EDITS[:2])
    method.edit([Edit(EDITS[0].prompt, "Ada", id=EDITS[0].id)])
    records, keys = list(method._records), method._keys.clone()
    assert [record.target for record in records] == [EDITS[1].target, "Ada"] and len(keys) == 2
    method.restore(method.checkpoint(), list(method.edits.values()))
    assert method._records == records and torch.equal(method._keys, keys)


def test_a_large_memory_is_compared_in_parts(serac, monkeypatch):
    from meloedit.methods.learned import serac as module

    method = serac()
    method.edit(EDITS)
    prompts = [*(edit.prompt for edit in EDITS), *OTHERS]
    whole = method.route(prompts)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 3 * method._keys.numel())
    assert method.route(prompts) == whole and method.route([]) == [] and method.answer([]) == []


def test_no_edits_no_route_and_the_base_models_answers(serac):
    method = serac()
    plain = method_class("none")(method.model, method.backbone.tokenizer)
    answers = method.answer(OTHERS)
    assert [a.text for a in answers] == [a.text for a in plain.answer(OTHERS)]
    assert [a.route for a in answers] == [None] * 3 and method.size().parameters == 0


def test_an_encoder_that_is_not_there_is_said_before_any_work(make_model, tokenizer):
    method = method_class("serac")(make_model("llama"), tokenizer, {"encoder": "/nowhere/at/all"})
    with pytest.raises(MeloEditError, match=r"^cannot load the encoder '/nowhere/at/all'"):
        method.check()
