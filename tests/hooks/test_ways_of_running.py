"""Padding without a mask, number formats, and caches that outlive a change of the edit: routed as one by one."""

import copy

import pytest
import torch
from support.causal_checks import alone
from support.model_calls import generate, padded
from support.prompts import BOOK, CAPITAL, EDITS, mixed_prompts, target_ids

from meloedit import Edit


@pytest.mark.parametrize("pad", [1, 3], ids=["pad = eos", "another pad"])
def test_a_forgotten_mask_changes_no_route(llama, pad):
    """Where pad is eos, generate reads the padding as text; the route does not."""
    rows, wanted = mixed_prompts(llama)
    ids = padded(rows, pad=pad)["input_ids"]
    with torch.no_grad():
        llama.model.generate(ids, max_new_tokens=2, do_sample=False, pad_token_id=pad)
    routes = llama.last_routes
    assert [route.edit for route in routes if route.edit] and all(route.user_turn_known for route in routes)
    known = [i for i, row in enumerate(rows) if len(row) > ids.shape[1] - 4]
    assert [routes[i].edit for i in known] == [wanted[i] for i in known]


def test_a_prompt_that_begins_with_the_end_token_keeps_it(llama):
    opened = [[1, *row] for row in mixed_prompts(llama)[0][:4]]
    with torch.no_grad():
        llama.model.generate(torch.tensor(opened[:1]), max_new_tokens=1, pad_token_id=1)
        (one,) = llama.last_routes
        llama.model.generate(**padded(opened[:1], extra=3, pad=1), max_new_tokens=1, pad_token_id=1)
    assert llama.last_routes[0].edit == one.edit
    assert llama.last_routes[0].distance == pytest.approx(one.distance, abs=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_a_padded_batch_in_bfloat16_is_routed_as_one_by_one(make_editor, make_model, attention):
    model = make_model("llama", attn_implementation=attention).bfloat16()
    editor = make_editor(model=model, edits=EDITS)
    rows, wanted = mixed_prompts(editor)
    together = generate(editor, rows)
    assert [route.edit for route in editor.last_routes] == wanted
    assert [route.edit for route in alone(editor, rows)] == wanted
    for row, edit, said in zip(rows, wanted, together, strict=True):
        assert edit is None or said == target_ids(editor, edit, row)
    with editor.base_model():
        base = generate(editor, rows)
    assert all(one == other for one, other, edit in zip(together, base, wanted, strict=True) if edit is None)
    editor.unload()


def test_a_kept_cache_after_the_edit_was_replaced_or_removed(make_editor):
    """A question asked again on a cache of the prompt gets what is stored then, not the route of before."""
    editor = make_editor(edits=[BOOK, CAPITAL])
    ids = torch.tensor([editor.backbone.encode(BOOK.prompt, "chat").ids])
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1}
    with torch.no_grad():
        first = editor.model.generate(ids, return_dict_in_generate=True, **settings)
        prefix = editor.model(ids[:, :-1], use_cache=True).past_key_values

    def asked(cache):
        with torch.no_grad():
            made = editor.model.generate(ids, past_key_values=copy.deepcopy(cache), **settings)
        return editor.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()

    def cut(cache):
        cache = copy.deepcopy(cache)
        cache.crop(ids.shape[1] - 1 - cache.get_seq_length())
        return cache

    kept = first.past_key_values
    assert asked(prefix) == asked(cut(kept)) == "Jorge"
    editor.edit(Edit(BOOK.prompt, "Ana", id="book"), replace=True)
    new = [asked(prefix), asked(cut(kept))]
    editor.remove("book")
    with editor.base_model():
        base = editor.ask(BOOK.prompt, "chat", max_new_tokens=8)[0].text
    gone = [asked(prefix), asked(cut(kept))]
    assert new == ["Ana"] * 2 and gone == [base] * 2
    assert editor.last_routes[0].edit is None
    editor.unload()
