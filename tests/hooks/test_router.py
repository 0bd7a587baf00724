"""A prompt's route depends on the prompt alone, whatever the call around it looks like."""

import copy
import gc
import logging
import weakref

import pytest
import torch
from conftest import EDITS, HISTORY, generate, mixed_prompts, padded, target_ids
from torch import nn
from transformers import DynamicCache

from meloedit import Editor
from meloedit.errors import ModelError, RoutingError


def run(editor, **inputs):
    if "position_ids" not in inputs and inputs.get("attention_mask", torch.ones(1)).dim() == 2:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return editor.model(**inputs)


def alone(editor, rows):
    """The route of each prompt when it is asked alone."""
    routes = []
    for row in rows:
        run(editor, input_ids=torch.tensor([row]))
        routes += editor.last_routes
    return routes


def assert_same(found, expected):
    assert [route.edit for route in found] == [route.edit for route in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.distance == pytest.approx(other.distance, abs=1e-4)
        assert (one.reason, one.nearest) == (other.reason, other.nearest)


def test_prompts_asked_alone_reach_their_edits(edited):
    rows, wanted = mixed_prompts(edited)
    routes = alone(edited, rows)
    assert [route.edit for route in routes] == wanted
    assert [route.boundary for route in routes].count("template") == 6
    assert_same(edited.route([edit.prompt for edit in EDITS]), alone(edited, [_ids(edited, edit) for edit in EDITS]))


def _ids(editor, edit):
    return editor.backbone.encode(edit.prompt).ids


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
    rows = [_ids(edited, edit)[:9] for edit in EDITS]
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
    with edited.routing(prompt_lengths=[len(row) for row in rows]):
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
            run(editor, input_ids=torch.tensor([_ids(editor, EDITS[0]) + [45, 46]]))
    assert editor.last_routes[0].boundary == "assumed"
    assert [record for record in caplog.records if "prompt_lengths" in record.message].__len__() == 1
    editor.detach()


def test_rows_out_of_scope_are_the_base_model_bit_for_bit(edited):
    rows, wanted = mixed_prompts(edited)
    batch = padded(rows, extra=2)
    edited_logits = run(edited, **batch).logits
    with edited.disabled():
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
    ids = torch.tensor([_ids(edited, EDITS[1])])
    embeds = edited.model.get_input_embeddings()(ids).detach()
    run(edited, inputs_embeds=embeds)
    (found,), (plain,) = edited.last_routes, alone(edited, ids.tolist())
    assert found.edit == plain.edit == "capital" and found.words_known
    assert found.distance == pytest.approx(plain.distance, abs=1e-4)
    with torch.no_grad():
        made = edited.model.generate(inputs_embeds=embeds, max_new_tokens=6, pad_token_id=1, do_sample=False)
    assert made[0].tolist() == target_ids(edited, "capital", ids[0])


def test_embeddings_of_no_token_are_routed_by_their_states_alone(edited):
    embeds = edited.model.get_input_embeddings()(torch.tensor([_ids(edited, EDITS[1])])).detach()
    run(edited, inputs_embeds=torch.cat([embeds, embeds[:, :1] + 1], 1))
    (route,) = edited.last_routes
    assert route.distance > 1e-2 and not route.words_known


def test_a_prompt_of_padding_alone_reaches_nothing(llama):
    batch = padded([_ids(llama, EDITS[0]), [5]])
    batch["attention_mask"][1] = 0
    run(llama, **batch)
    assert [(route.edit, route.reason) for route in llama.last_routes] == [("book", "fired"), (None, "no prompt")]


# -- several calls over one cache


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
    ids = torch.tensor([_ids(edited, EDITS[0])])
    first = run(edited, input_ids=ids, use_cache=True)
    token = first.logits[:, -1:].argmax(2)
    copies = [copy.deepcopy(first.past_key_values), first.past_key_values]
    both = [run(edited, input_ids=token, past_key_values=cache).logits for cache in copies]
    assert edited.last_routes[0].edit == "book"
    assert torch.equal(*both)
    with edited.disabled():
        base = run(edited, input_ids=torch.cat([ids, token], 1)).logits[:, -1:]
    assert not torch.allclose(both[0], base, atol=1e-2)


def test_outputs_as_tuples_carry_the_route_too(edited):
    ids = torch.tensor([_ids(edited, EDITS[0])])
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
    shared = chats[0][: edited.backbone.encode(EDITS[0].prompt, "chat").words.start - 3]
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
    rows = [_ids(edited, edit)[-9:] for edit in EDITS[:3]]
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
    first, other = (_ids(llama, edit)[-9:] for edit in EDITS[:2])
    (fresh,) = alone(llama, [other])
    for kept in (1, 4):
        cache = run(llama, input_ids=torch.tensor([first]), use_cache=True).past_key_values
        cache.crop(kept - len(first))
        with llama.disabled():
            cache = run(llama, input_ids=torch.tensor([other[kept:-1]]), past_key_values=cache).past_key_values
        with torch.no_grad():
            llama.model.generate(torch.tensor([other]), past_key_values=cache, max_new_tokens=1, pad_token_id=1)
        (route,) = llama.last_routes
        assert not route.words_known and (route.edit, route.distance) != ("book", 0.0)
    assert fresh.words_known


def test_rows_of_a_cache_that_change_places_are_not_taken_for_each_other(llama):
    rows = torch.tensor([_ids(llama, edit)[-9:] for edit in EDITS[:2]])
    cache = run(llama, input_ids=rows[:, :5], use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([1, 0]))
    with torch.no_grad():
        llama.model.generate(rows.flip(0), past_key_values=cache, max_new_tokens=1, pad_token_id=1)
    assert [route.words_known for route in llama.last_routes] == [False, False]


def test_what_one_editor_decided_is_nothing_to_the_next(make_editor):
    editor = make_editor(edits=EDITS[:1])
    ids = torch.tensor([_ids(editor, EDITS[0])])
    settings = {"max_new_tokens": 1, "pad_token_id": 1, "do_sample": False, "return_dict_in_generate": True}
    with torch.no_grad():
        start = editor.model.generate(ids, **settings)
    other = make_editor(edits=EDITS[1:2], model=editor.detach())
    with torch.no_grad():
        other.model.generate(start.sequences, past_key_values=start.past_key_values, **settings)
    assert [route.edit for route in other.last_routes] == [None]
    other.detach()


def test_states_are_kept_with_a_cache_and_no_longer(llama):
    ids = torch.tensor([_ids(llama, EDITS[0])])
    cache = run(llama, input_ids=ids, use_cache=True).past_key_values
    batch = weakref.ref(getattr(cache, llama.router.batch_attribute))
    assert batch().states.shape[1] == ids.shape[1]
    del cache
    gc.collect()
    assert batch() is None and llama.last_routes[0].edit == "book"


def test_raw_text_that_goes_on_behind_an_answer_is_keyed_by_what_is_new(edited):
    settings = {"max_new_tokens": 2, "pad_token_id": 1, "do_sample": False, "return_dict_in_generate": True}
    with torch.no_grad():
        start = edited.model.generate(torch.tensor([_ids(edited, EDITS[0])]), **settings)
        more = torch.cat([start.sequences, torch.tensor([_ids(edited, EDITS[1])])], 1)
        edited.model.generate(more, past_key_values=start.past_key_values, **settings)
    (route,) = edited.last_routes
    assert not route.words_known and route.boundary == "given"
    with torch.no_grad():
        edited.model.generate(more, **settings)
    assert edited.last_routes[0].words_known
    assert abs(edited.last_routes[0].distance - route.distance) > 1e-3  # the whole text is another prompt


def test_a_cache_cut_back_to_its_prefix_is_routed_anew(edited):
    first, second = (torch.tensor([_ids(edited, edit)]) for edit in EDITS[:2])
    cache = run(edited, input_ids=first, use_cache=True).past_key_values
    assert edited.last_routes[0].edit == "book"
    cache.crop(1 - first.shape[1])
    run(edited, input_ids=second[:, 1:], past_key_values=cache)
    assert edited.last_routes[0].edit != "book"


def test_a_cache_of_other_rows_is_refused(llama):
    ids = torch.tensor([_ids(llama, EDITS[0])])
    cache = run(llama, input_ids=ids, use_cache=True).past_key_values
    cache.batch_repeat_interleave(2)
    with pytest.raises(RoutingError, match="routed for 1 rows and now has 2"):
        run(llama, input_ids=torch.tensor([[7], [7]]), past_key_values=cache)


# -- what cannot be routed is refused


REFUSED = [
    ({"cache_implementation": "paged"}, ["argument", "config", "model"]),
    ({"prompt_lookup_num_tokens": 2}, ["argument", "config", "model"]),
    ({"assistant_early_exit": 2}, ["argument", "config", "model"]),
    ({"use_mtp": True}, ["argument", "config", "model"]),
    ({"guidance_scale": 1.5}, ["argument", "config", "model"]),
    ({"token_healing": True}, ["argument", "config", "model"]),
    ({"penalty_alpha": 0.6, "top_k": 4}, ["argument", "config", "model"]),
    ({"num_beam_groups": 2, "num_beams": 4}, ["argument", "config", "model"]),
    ({"dola_layers": "high"}, ["argument", "config", "model"]),
    ({"force_words_ids": [[5]]}, ["argument", "config", "model"]),
    ({"custom_generate": "someone/decoding"}, ["argument"]),
    ({"custom_generate": lambda model, **kwargs: None}, ["argument"]),
    ({"negative_prompt_ids": torch.tensor([[5]])}, ["argument"]),
    ({"assistant_model": nn.Linear(1, 1)}, ["argument"]),
]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        pytest.param(settings, place, id=f"{next(iter(settings))}-{place}")
        for settings, places in REFUSED
        for place in places
    ],
)
def test_ways_of_decoding_that_cannot_be_routed_are_refused(llama, settings, where, monkeypatch):
    name = next(iter(settings))
    if where != "argument":
        config = copy.deepcopy(llama.model.generation_config)
        config.update(**settings)
        settings = {"generation_config": config} if where == "config" else {}
        if where == "model":
            monkeypatch.setattr(llama.model, "generation_config", config)
    with pytest.raises(RoutingError, match=f"{name}=.*disabled"):
        llama.model.generate(torch.tensor([[5, 6, 7]]), **settings)


def test_continuous_batching_is_refused(llama):
    for name in ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager"):
        with pytest.raises(RoutingError, match="continuous batching"):
            getattr(llama.model, name)([[5, 6, 7]])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"cu_seq_lens_q": torch.tensor([0, 2, 4])}, "packed"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "packed"),
        ({"attention_mask": torch.ones(1, 1, 4, 4)}, "more than two dimensions"),
        ({"attention_mask": torch.ones(1, 3)}, "3 columns, the call has 4"),
    ],
)
def test_plain_calls_that_cannot_be_routed_are_refused(llama, inputs, message):
    with pytest.raises(RoutingError, match=message):
        run(llama, input_ids=torch.tensor([[5, 6, 7, 8]]), **inputs)


def test_lengths_of_other_rows_are_refused(llama):
    with pytest.raises(RoutingError, match="names 2 rows, the call has 1"), llama.routing(prompt_lengths=[1, 2]):
        run(llama, input_ids=torch.tensor([[5, 6]]))


def test_a_model_without_edits_refuses_nothing(make_editor):
    editor = make_editor()
    made = editor.model.generate(torch.tensor([[5, 6, 5, 6]]), prompt_lookup_num_tokens=2, max_new_tokens=2)
    assert made.shape == (1, 6)
    editor.detach()


# -- on and off


def test_disabled_is_the_base_model_and_nests(edited, make_model):
    rows, _ = mixed_prompts(edited)
    batch = padded(rows)
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    own = run(edited, **batch).logits
    with edited.disabled():
        with edited.disabled():
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
    with llama.disabled():
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
    with llama.disabled():
        assert torch.equal(llama.backbone.decoder(**inputs)[0], states)  # as training and keys run it
        assert torch.equal(run(llama, **inputs).logits, base)
    assert generate(llama, rows) == expected


def test_bad_input_leaves_no_route_behind(llama):
    expected = generate(llama, [_ids(llama, EDITS[0])])
    with pytest.raises(Exception, match=r"range|index"):
        run(llama, input_ids=torch.tensor([[10_000]]))
    with pytest.raises(RoutingError):
        llama.model.generate(torch.tensor([[5]]), prompt_lookup_num_tokens=2)
    assert generate(llama, [_ids(llama, EDITS[0])]) == expected


# -- coming and going


def test_detach_gives_the_model_back(make_editor, make_model):
    for family in ("llama", "gpt2"):
        model = make_model(family)
        model.train()
        model.lm_head.weight.requires_grad_(False)
        before = _portrait(model)
        ids = torch.tensor([[40, 41, 42]])
        torch.manual_seed(1)
        expected = model.generate(ids, max_new_tokens=5, do_sample=False)
        editor = make_editor(model=model, edits=EDITS[:1])
        assert _portrait(model)[1:] == before[1:]
        assert editor.detach() is model
        editor.detach()  # once more does no harm
        after = _portrait(model)
        assert after[1:] == before[1:] and after[0] == before[0]
        torch.manual_seed(1)
        assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), expected)


def _portrait(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    modules = dict(model.named_modules()).items()
    return (
        [(name, sorted(vars(module)), [len(getattr(module, hook)) for hook in hooks]) for name, module in modules],
        {name: weight.clone().view(torch.int32).sum().item() for name, weight in model.state_dict().items()},
        {name: weight.requires_grad for name, weight in model.named_parameters()},
        [module.training for module in model.modules()],
    )


def test_a_model_takes_one_editor_at_a_time(llama, tmp_path):
    with pytest.raises(ModelError, match="already has an editor.*detach"):
        Editor(llama.model, llama.tokenizer, store=tmp_path / "second.melo")
    assert not (tmp_path / "second.melo").exists()


def test_another_wrapper_of_generate_is_kept(make_editor, make_model):
    model = make_model()
    own, calls = model.generate, []
    model.generate = lambda *args, **kwargs: calls.append(args) or own(*args, **kwargs)
    wrapper = model.generate
    editor = make_editor(model=model, edits=EDITS[:1])
    assert generate(editor, [_ids(editor, EDITS[0])]) == [target_ids(editor, "book", [])]
    editor.detach()
    assert calls and vars(model)["generate"] is wrapper


def test_saving_the_model_saves_the_base_model(llama, make_model, tmp_path):
    base = make_model()
    assert llama.model.state_dict().keys() == base.state_dict().keys()
    llama.model.save_pretrained(tmp_path)
    again = type(base).from_pretrained(tmp_path)
    for name, weight in base.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_a_module_that_sees_rows_flattened_is_refused(make_model, tokenizer):
    model = make_model()
    mlp = model.model.layers[-1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x.flatten(0, 1)).view(x.shape)
    with pytest.raises(ModelError, match="down_proj.*row by row"):
        Editor(model, tokenizer)
