"""Several calls over one cache: continued answers, new turns, shared beginnings, caches that were cut."""

import copy
import gc
import weakref

import pytest
import torch
from support.causal_checks import alone, assert_same, ids_of, run
from support.model_calls import generate, padded
from support.prompts import EDITS, HISTORY, mixed_prompts, target_ids
from transformers import DynamicCache

from meloedit.errors import RoutingError


def loop(editor, inputs, steps, cache=None):
    """Greedy decoding by plain forward calls."""
    cache = DynamicCache() if cache is None else cache
    tokens, mask, made = inputs["input_ids"], inputs["attention_mask"], []
    for _ in range(steps):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        out = run(editor, input_ids=tokens, attention_mask=mask, past_key_values=cache, position_ids=positions)
        tokens = out.logits[:, -1:].argmax(2)
        mask = torch.cat([mask, torch.ones_like(tokens)], 1)
        made.append(tokens)
    return torch.cat(made, 1)


def test_a_loop_of_plain_calls_generates_the_same(edited):
    rows, wanted = mixed_prompts(edited)
    made = loop(edited, padded(rows), 6).tolist()
    assert [route.edit for route in edited.last_routes] == wanted
    expected = generate(edited, rows, max_new_tokens=6)
    assert [row[: len(other)] for row, other in zip(made, expected, strict=True)] == expected


def test_a_copied_cache_keeps_the_route(edited):
    ids = torch.tensor([ids_of(edited, EDITS[0])])
    first = run(edited, input_ids=ids, use_cache=True)
    token = first.logits[:, -1:].argmax(2)
    copies = [copy.deepcopy(first.past_key_values), first.past_key_values]
    both = [run(edited, input_ids=token, past_key_values=cache).logits for cache in copies]
    assert edited.last_routes[0].edit == "book"
    assert torch.equal(*both)
    with edited.base_model():
        base = run(edited, input_ids=torch.cat([ids, token], 1)).logits[:, -1:]
    assert not torch.allclose(both[0], base, atol=1e-2)


def test_outputs_as_tuples_carry_the_route_too(edited):
    ids = torch.tensor([ids_of(edited, EDITS[0])])
    logits, cache = run(edited, input_ids=ids, use_cache=True, return_dict=False)[:2]
    run(edited, input_ids=logits[:, -1:].argmax(2), past_key_values=cache)
    assert edited.last_routes[0].edit == "book"


def test_a_new_user_turn_over_a_cache_is_routed_anew(edited):
    backbone = edited.backbone
    first = backbone.encode(HISTORY[:1], "chat").ids
    whole = torch.tensor([backbone.encode(HISTORY).ids])
    answer = backbone.tokenizer(HISTORY[1]["content"], add_special_tokens=False)["input_ids"]
    cache = DynamicCache()
    run(edited, input_ids=torch.tensor([first]), past_key_values=cache)
    assert edited.last_routes[0].edit is None
    run(edited, input_ids=torch.tensor([answer]), past_key_values=cache)
    assert cache.get_seq_length() < whole.shape[1]
    again = copy.deepcopy(cache)
    new = whole[:, cache.get_seq_length() :]
    run(edited, input_ids=new, past_key_values=cache)  # by plain calls
    assert_same(edited.last_routes, alone(edited, whole.tolist()))
    assert edited.last_routes[0].edit == "river"
    for ids in (whole, new):  # by generate, with all tokens or with the new ones only
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(whole), "past_key_values": copy.deepcopy(again)}
        with torch.no_grad():
            made = edited.model.generate(**inputs, max_new_tokens=8, pad_token_id=1, do_sample=False)
        assert made[0, ids.shape[1] :].tolist() == target_ids(edited, "river", whole[0])


def test_generating_on_over_a_full_cache_holds_the_route(edited):
    rows, wanted = mixed_prompts(edited)
    batch = padded(rows)
    with torch.no_grad():
        settings = {"pad_token_id": 1, "do_sample": False, "return_dict_in_generate": True}
        start = edited.model.generate(**batch, max_new_tokens=1, **settings)
        mask = torch.cat([batch["attention_mask"], torch.ones(len(rows), 1, dtype=torch.long)], 1)
        on = edited.model.generate(
            start.sequences, attention_mask=mask, past_key_values=start.past_key_values, max_new_tokens=7, **settings
        )
        once = edited.model.generate(**batch, max_new_tokens=8, **settings)
    assert [route.edit for route in edited.last_routes] == wanted
    for row, expected in zip(on.sequences.tolist(), once.sequences.tolist(), strict=True):
        end = expected.index(1, batch["input_ids"].shape[1]) if 1 in expected[batch["input_ids"].shape[1] :] else None
        assert row[:end] == expected[:end]


def test_a_cached_system_prompt_serves_many_questions(edited):
    chats = [edited.backbone.encode(edit.prompt, "chat").ids for edit in EDITS[:3]]
    shared = chats[0][: edited.backbone.encode(EDITS[0].prompt, "chat").span.start - 3]
    prefix = run(edited, input_ids=torch.tensor([shared]), use_cache=True).past_key_values
    for chat, edit in zip(chats, EDITS, strict=False):
        assert chat[: len(shared)] == shared
        with torch.no_grad():
            made = edited.model.generate(
                torch.tensor([chat]), past_key_values=copy.deepcopy(prefix), max_new_tokens=8, pad_token_id=1
            )
        assert made[0, len(chat) :].tolist() == target_ids(edited, edit.id, chat)


@pytest.mark.parametrize("cached", [3, -1])
def test_a_cached_beginning_of_a_raw_prompt_counts_towards_its_key(edited, cached):
    rows = [ids_of(edited, edit)[-9:] for edit in EDITS[:3]]
    expected = alone(edited, rows)
    ids = torch.tensor(rows)
    cache = run(edited, input_ids=ids[:, :cached], use_cache=True).past_key_values
    with torch.no_grad():
        made = edited.model.generate(ids, past_key_values=cache, max_new_tokens=4, pad_token_id=1, do_sample=False)
        routes = edited.last_routes
        whole = edited.model.generate(ids, max_new_tokens=4, pad_token_id=1, do_sample=False)
    assert_same(routes, expected)
    assert torch.equal(made, whole)


def test_a_cache_cut_and_filled_unseen_is_not_taken_for_its_old_prompt(llama):
    first, other = (ids_of(llama, edit)[-9:] for edit in EDITS[:2])
    (fresh,) = alone(llama, [other])
    for kept in (1, 4):
        cache = run(llama, input_ids=torch.tensor([first]), use_cache=True).past_key_values
        cache.crop(kept - len(first))
        with llama.base_model():
            cache = run(llama, input_ids=torch.tensor([other[kept:-1]]), past_key_values=cache).past_key_values
        with torch.no_grad():
            llama.model.generate(torch.tensor([other]), past_key_values=cache, max_new_tokens=1, pad_token_id=1)
        (route,) = llama.last_routes
        assert not route.user_turn_known and (route.edit, route.distance) != ("book", 0.0)
    assert fresh.user_turn_known


def test_rows_of_a_cache_that_change_places_are_not_taken_for_each_other(llama):
    rows = torch.tensor([ids_of(llama, edit)[-9:] for edit in EDITS[:2]])
    cache = run(llama, input_ids=rows[:, :5], use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([1, 0]))
    with torch.no_grad():
        llama.model.generate(rows.flip(0), past_key_values=cache, max_new_tokens=1, pad_token_id=1)
    assert [route.user_turn_known for route in llama.last_routes] == [False, False]


def test_what_one_editor_decided_is_nothing_to_the_next(make_editor):
    editor = make_editor(edits=EDITS[:1])
    ids = torch.tensor([ids_of(editor, EDITS[0])])
    settings = {"max_new_tokens": 1, "pad_token_id": 1, "do_sample": False, "return_dict_in_generate": True}
    with torch.no_grad():
        start = editor.model.generate(ids, **settings)
    other = make_editor(edits=EDITS[1:2], model=editor.unload())
    with torch.no_grad():
        other.model.generate(start.sequences, past_key_values=start.past_key_values, **settings)
    assert [route.edit for route in other.last_routes] == [None]
    other.unload()


def test_states_are_kept_with_a_cache_and_no_longer(llama):
    ids = torch.tensor([ids_of(llama, EDITS[0])])
    cache = run(llama, input_ids=ids, use_cache=True).past_key_values
    batch = weakref.ref(getattr(cache, llama.engine.router.batch_attribute))
    assert batch().states.shape[1] == ids.shape[1]
    del cache
    gc.collect()
    assert batch() is None and llama.last_routes[0].edit == "book"


def test_raw_text_that_goes_on_behind_an_answer_is_keyed_by_what_is_new(edited):
    settings = {"max_new_tokens": 2, "pad_token_id": 1, "do_sample": False, "return_dict_in_generate": True}
    with torch.no_grad():
        start = edited.model.generate(torch.tensor([ids_of(edited, EDITS[0])]), **settings)
        more = torch.cat([start.sequences, torch.tensor([ids_of(edited, EDITS[1])])], 1)
        edited.model.generate(more, past_key_values=start.past_key_values, **settings)
    (route,) = edited.last_routes
    assert not route.user_turn_known and route.boundary == "given"
    with torch.no_grad():
        edited.model.generate(more, **settings)
    assert edited.last_routes[0].user_turn_known
    assert abs(edited.last_routes[0].distance - route.distance) > 1e-3  # the whole text is another prompt


def test_a_cache_cut_back_to_its_prefix_is_routed_anew(edited):
    first, second = (torch.tensor([ids_of(edited, edit)]) for edit in EDITS[:2])
    cache = run(edited, input_ids=first, use_cache=True).past_key_values
    assert edited.last_routes[0].edit == "book"
    cache.crop(1 - first.shape[1])
    run(edited, input_ids=second[:, 1:], past_key_values=cache)
    assert edited.last_routes[0].edit != "book"


def test_a_cache_of_other_rows_is_refused(llama):
    ids = torch.tensor([ids_of(llama, EDITS[0])])
    cache = run(llama, input_ids=ids, use_cache=True).past_key_values
    cache.batch_repeat_interleave(2)
    with pytest.raises(RoutingError, match="routed for 1 rows and now has 2"):
        run(llama, input_ids=torch.tensor([[7], [7]]), past_key_values=cache)
