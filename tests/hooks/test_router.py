"""A prompt's route depends on the prompt alone, whatever the call around it looks like."""

import logging

import pytest
import torch
from support.causal_checks import alone, assert_same, ids_of, run
from support.model_calls import generate, padded
from support.prompts import EDITS, mixed_prompts, target_ids

from meloedit.errors import RoutingError


def test_prompts_asked_alone_reach_their_edits(edited):
    rows, wanted = mixed_prompts(edited)
    routes = alone(edited, rows)
    assert [route.edit for route in routes] == wanted
    assert [route.boundary for route in routes].count("template") == 6
    assert_same(edited.route([edit.prompt for edit in EDITS]), alone(edited, [ids_of(edited, edit) for edit in EDITS]))


@pytest.mark.parametrize("extra", [0, 7])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batch_mates_do_not_matter(edited, side, extra):
    rows, _ = mixed_prompts(edited)
    expected = alone(edited, rows)
    run(edited, **padded(rows, side, extra))
    assert_same(edited.last_routes, expected)
    with torch.no_grad():
        edited.model.generate(**padded(rows, side, extra), max_new_tokens=3, pad_token_id=1, do_sample=False)
    assert_same(edited.last_routes, expected)


def test_rows_of_one_length_need_no_mask(edited):
    rows = [ids_of(edited, edit)[:9] for edit in EDITS]
    expected = alone(edited, rows)
    run(edited, input_ids=torch.tensor(rows))
    assert_same(edited.last_routes, expected)
    with torch.no_grad():
        edited.model.generate(torch.tensor(rows), max_new_tokens=1, pad_token_id=1)
    assert_same(edited.last_routes, expected)


def test_without_a_mask_generate_infers_padding_as_transformers_does(llama):
    rows, _ = mixed_prompts(llama)
    expected = alone(llama, rows)
    ids = padded(rows, extra=2, pad=3)["input_ids"]
    with torch.no_grad():
        llama.model.generate(ids, max_new_tokens=2, pad_token_id=3)
    assert_same(llama.last_routes, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_appended_answer_does_not_move_the_route(edited, side):
    rows, wanted = mixed_prompts(edited)
    expected = alone(edited, rows)
    answers = [target_ids(edited, edit or "book", row) for row, edit in zip(rows, wanted, strict=True)]
    whole = padded([row + answer for row, answer in zip(rows, answers, strict=True)], side, extra=3)
    labels = padded([[-100] * len(row) + answer for row, answer in zip(rows, answers, strict=True)], side, 3, -100)
    run(edited, **whole, labels=labels["input_ids"])
    assert_same(edited.last_routes, expected)
    assert {route.boundary for route in edited.last_routes} == {"labels"}
    with edited.prompt_lengths([len(row) for row in rows]):
        logits = run(edited, **whole).logits
    assert_same(edited.last_routes, expected)
    assert {route.boundary for route in edited.last_routes} == {"given"}
    for i, (row, answer, edit) in enumerate(zip(rows, answers, wanted, strict=True)):
        if edit:  # teacher-forced, the block acts as it does in generate
            start = (whole["input_ids"].shape[1] - len(row) - len(answer) if side == "left" else 0) + len(row) - 1
            assert logits[i, start : start + len(answer)].argmax(1).tolist() == answer


def test_a_chat_template_shows_where_the_prompt_ends(edited):
    chats = [edited.backbone.encode(edit.prompt, "chat").ids for edit in EDITS]
    expected = alone(edited, chats)
    answered = [row + target_ids(edited, edit.id, row) for row, edit in zip(chats, EDITS, strict=True)]
    logits = run(edited, **padded(answered)).logits
    assert_same(edited.last_routes, expected)
    assert {route.boundary for route in edited.last_routes} == {"template"}
    for row, chat, edit in zip(logits, chats, EDITS, strict=True):
        target = target_ids(edited, edit.id, chat)
        assert row[-len(target) - 1 : -1].argmax(1).tolist() == target
    starts = [len(row) for row in chats]
    begun = [row[:-2] for row in answered]  # an answer that generate has to finish
    assert [len(row) > start for row, start in zip(begun, starts, strict=True)].count(True) >= 3
    ends = generate(edited, begun)
    assert_same(edited.last_routes, expected)
    assert [row + end for row, end in zip(begun, ends, strict=True)] == answered


def test_a_raw_prompt_with_an_unmarked_answer_is_taken_whole_and_said_so(make_editor, caplog):
    editor = make_editor(edits=EDITS[:1])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            run(editor, input_ids=torch.tensor([ids_of(editor, EDITS[0]) + [45, 46]]))
    assert editor.last_routes[0].boundary == "assumed"
    assert [record for record in caplog.records if "prompt_lengths" in record.message].__len__() == 1
    editor.unload()


def test_rows_out_of_scope_are_the_base_model_bit_for_bit(edited):
    rows, wanted = mixed_prompts(edited)
    batch = padded(rows, extra=2)
    edited_logits = run(edited, **batch).logits
    with edited.base_model():
        base = run(edited, **batch).logits
    for i, edit in enumerate(wanted):
        assert torch.equal(edited_logits[i], base[i]) == (edit is None)


def test_a_route_is_decided_once_and_held(edited, monkeypatch):
    searches = []
    search = edited.index.search
    monkeypatch.setattr(edited.index, "search", lambda queries: searches.append(len(queries)) or search(queries))
    rows, wanted = mixed_prompts(edited)
    generate(edited, rows)
    assert searches == [len(rows)]
    assert [route.edit for route in edited.last_routes] == wanted


def test_embeddings_are_routed_as_raw_text(edited):
    ids = torch.tensor([ids_of(edited, EDITS[1])])
    embeds = edited.model.get_input_embeddings()(ids).detach()
    run(edited, inputs_embeds=embeds)
    (found,), (plain,) = edited.last_routes, alone(edited, ids.tolist())
    assert found.edit == plain.edit == "capital" and found.user_turn_known
    assert found.distance == pytest.approx(plain.distance, abs=1e-4)
    with torch.no_grad():
        made = edited.model.generate(inputs_embeds=embeds, max_new_tokens=6, pad_token_id=1, do_sample=False)
    assert made[0].tolist() == target_ids(edited, "capital", ids[0])


def test_embeddings_of_no_token_are_routed_by_their_states_alone(edited):
    embeds = edited.model.get_input_embeddings()(torch.tensor([ids_of(edited, EDITS[1])])).detach()
    run(edited, inputs_embeds=torch.cat([embeds, embeds[:, :1] + 1], 1))
    (route,) = edited.last_routes
    assert route.distance > 1e-2 and not route.user_turn_known


def test_a_prompt_of_padding_alone_reaches_nothing(llama):
    batch = padded([ids_of(llama, EDITS[0]), [5]])
    batch["attention_mask"][1] = 0
    run(llama, **batch)
    assert [(route.edit, route.reason) for route in llama.last_routes] == [("book", "fired"), (None, "no prompt")]


def test_disabled_is_the_base_model_and_nests(edited, make_model):
    rows, _ = mixed_prompts(edited)
    batch = padded(rows)
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    own = run(edited, **batch).logits
    with edited.base_model():
        with edited.base_model():
            pass
        plain = run(edited, **batch).logits
        assert edited.last_routes == []
    assert torch.equal(run(edited, **batch).logits, own)
    assert torch.equal(make_model(edited.model.config.model_type)(**batch).logits, plain)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["plain", "generate"])
@pytest.mark.parametrize("place", ["below the key", "above the blocks"])
def test_an_error_in_a_forward_pass_leaves_no_route_behind(llama, error, call, place):
    rows, _ = mixed_prompts(llama)
    layer = llama.backbone.layers[0 if place == "below the key" else -1]
    inputs = padded(rows)
    with llama.base_model():
        base = run(llama, **inputs).logits
        states = llama.backbone.decoder(**inputs)[0]
    expected = generate(llama, rows)

    def fail(*_):
        raise error("stop")

    handle = layer.register_forward_hook(fail)
    with pytest.raises(error, match="stop"):
        run(llama, **inputs) if call == "plain" else generate(llama, rows)
    handle.remove()
    if error is ValueError:
        assert torch.equal(llama.backbone.decoder(**inputs)[0], states)  # no hook fires outside a routed call
    with llama.base_model():
        assert torch.equal(llama.backbone.decoder(**inputs)[0], states)  # as training and keys run it
        assert torch.equal(run(llama, **inputs).logits, base)
    assert generate(llama, rows) == expected


def test_bad_input_leaves_no_route_behind(llama):
    expected = generate(llama, [ids_of(llama, EDITS[0])])
    with pytest.raises(Exception, match=r"range|index"):
        run(llama, input_ids=torch.tensor([[10_000]]))
    with pytest.raises(RoutingError):
        llama.model.generate(torch.tensor([[5]]), prompt_lookup_num_tokens=2)
    assert generate(llama, [ids_of(llama, EDITS[0])]) == expected
