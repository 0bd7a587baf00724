"""Encoder-decoders and classifiers: a route depends on the prompt alone, however the model is called."""

import pytest
import torch
from support.encoder_checks import BOTH, alone, assert_same, logits_of
from support.model_calls import padded, source_answers, source_inputs
from support.prompts import BOOK, CAPITAL, FACTS, source_prompts, source_target
from support.tiny_models import END

from meloedit.errors import EditError, RoutingError


def test_rows_out_of_scope_are_the_base_model_bit_for_bit(sourced):
    rows, wanted = source_prompts(sourced)
    assert wanted == [None, "book", None, "legs", "capital", None]
    found = logits_of(sourced, rows, extra=2)
    with sourced.base_model():
        base = logits_of(sourced, rows, extra=2)
    for i, edit in enumerate(wanted):
        assert torch.equal(found[i], base[i]) == (edit is None)


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
def test_scores_of_generate_out_of_scope_are_bit_identical(make_source_editor, family):
    editor = make_source_editor(family, FACTS, modules=BOTH, reach="all")  # encoder and decoder edited
    rows, wanted = source_prompts(editor)
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        scores = torch.stack(editor.model.generate(**padded(rows, "right"), **settings).logits)
        with editor.base_model():
            base = torch.stack(editor.model.generate(**padded(rows, "right"), **settings).logits)
    for i, edit in enumerate(wanted):
        assert torch.equal(scores[:, i], base[:, i]) == (edit is None)
    assert source_answers(editor, [rows[1]]) == [source_target(editor, "book")]
    editor.unload()


@pytest.mark.parametrize(("side", "extra"), [("right", 0), ("right", 7), ("left", 0), ("left", 7)])
def test_padding_and_batch_mates_do_not_matter(sourced, side, extra):
    if not sourced.backbone.stop_ids:
        side = "right"  # the only side that learned positions allow
    rows, wanted = source_prompts(sourced)
    expected = alone(sourced, rows)
    assert [route.edit for route in expected] == wanted
    logits = logits_of(sourced, rows, side, extra)
    assert_same(sourced.last_routes, expected)
    one_by_one = torch.cat([logits_of(sourced, [row]) for row in rows])
    assert torch.allclose(logits, one_by_one, atol=1e-3)
    answers = source_answers(sourced, rows, side, extra)
    assert_same(sourced.last_routes, expected)
    assert answers == [source_answers(sourced, [row])[0] for row in rows]
    assert_same(sourced.route([*(edit.prompt for edit in FACTS)]), [expected[i] for i in (1, 4, 3)])


def test_the_answer_does_not_move_the_route(t5):
    rows, _ = source_prompts(t5)
    expected = alone(t5, rows)
    for decoder in ([1], [1, 45, 270, 74], [1, *range(40, 60)]):
        with torch.no_grad():
            t5.model(**padded(rows, "right"), decoder_input_ids=torch.tensor([decoder] * len(rows)))
        assert_same(t5.last_routes, expected)
    source_answers(t5, rows, decoder_input_ids=torch.tensor([[1, 40, 41]] * len(rows)))
    assert_same(t5.last_routes, expected)


def test_a_route_is_decided_once_and_held(t5, monkeypatch):
    searches = []
    search = t5.index.search
    monkeypatch.setattr(t5.index, "search", lambda queries: searches.append(len(queries)) or search(queries))
    rows, wanted = source_prompts(t5)
    source_answers(t5, rows, num_beams=3)
    assert searches == [6]
    assert [route.edit for route in t5.last_routes] == wanted


def test_embeddings_are_routed_without_knowing_the_words(sourced):
    ids = torch.tensor([sourced.backbone.encode(CAPITAL.prompt).ids])
    inputs = source_inputs(sourced, ids.tolist())
    del inputs["input_ids"]
    with torch.no_grad():
        sourced.model(**inputs, inputs_embeds=sourced.model.get_input_embeddings()(ids))
    (route,) = sourced.last_routes
    assert route.nearest == "capital" and not route.user_turn_known


def test_rows_of_nothing_but_padding_are_not_routed(sourced):
    row = sourced.backbone.encode(BOOK.prompt).ids
    inputs = source_inputs(sourced, [row, row])
    inputs["attention_mask"][1] = 0
    with torch.no_grad():
        sourced.model(**inputs)
    assert [(route.edit, route.reason) for route in sourced.last_routes] == [("book", "fired"), (None, "no prompt")]


def test_arguments_by_place(sourced):
    rows, wanted = source_prompts(sourced)
    inputs = source_inputs(sourced, rows)
    with torch.no_grad():
        assert torch.equal(sourced.model(*inputs.values()).logits, sourced.model(**inputs).logits)
        sourced.model(*inputs.values())
    assert [route.edit for route in sourced.last_routes] == wanted


def test_a_mask_of_more_than_two_dimensions_is_refused(sourced):
    inputs = source_inputs(sourced, [[5, 6, END]])
    with pytest.raises(RoutingError, match="more than two dimensions"):
        sourced.model(**inputs | {"attention_mask": torch.ones(1, 1, 3, 3)})


WAYS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 1.3, "top_k": 20},
    "beams": {"num_beams": 3},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "penalty": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
}


@pytest.fixture
def fixed_draws(monkeypatch):
    """Sample by position in the cumulated probabilities, so that a row's draw does not depend on its batch."""
    monkeypatch.setattr(torch, "multinomial", lambda p, num_samples: (p.cumsum(1) > 0.6).int().argmax(1, keepdim=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_mixed_batch_answers_as_one_by_one(t5, way, fixed_draws):
    rows, wanted = source_prompts(t5)
    together = source_answers(t5, rows, **WAYS[way])
    assert [route.edit for route in t5.last_routes] == wanted
    assert together == [source_answers(t5, [row], **WAYS[way])[0] for row in rows]
    with t5.base_model():
        base = source_answers(t5, rows, **WAYS[way])
    assert [one == other for one, other in zip(together, base, strict=True)] == [edit is None for edit in wanted]
    if way in ("greedy", "no cache", "static cache"):
        assert [together[i] for i in (1, 4, 3)] == [source_target(t5, edit.id) for edit in FACTS]


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"do_sample": True}], ids=["beams", "sampling"])
def test_several_sequences_per_prompt(t5, settings, fixed_draws):
    rows, wanted = source_prompts(t5)
    together = source_answers(t5, rows, num_return_sequences=3, **settings)
    assert len(together) == 18
    assert [route.edit for route in t5.last_routes] == wanted
    alone = [answer for row in rows for answer in source_answers(t5, [row], num_return_sequences=3, **settings)]
    assert together == alone


def test_ways_of_decoding_that_cannot_be_routed_are_refused(t5):
    for settings in ({"prompt_lookup_num_tokens": 2}, {"guidance_scale": 1.5}, {"penalty_alpha": 0.6, "top_k": 4}):
        with pytest.raises(RoutingError, match=f"{next(iter(settings))}=.*base_model"):
            t5.model.generate(torch.tensor([[5, 6, 7, END]]), **settings)
    with pytest.raises(EditError, match="one answer per prompt"):
        t5.ask(BOOK.prompt, num_return_sequences=2)
