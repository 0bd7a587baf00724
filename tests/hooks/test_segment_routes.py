"""Prompts of several sentences: each has a key, the nearest decides, and nothing around the prompt changes that."""

import copy

import pytest
import torch
from support.causal_checks import assert_same, led_rows, run
from support.model_calls import padded
from support.prompts import EDITS, LEAD, LED_NEAREST, LED_PROMPTS, OTHERS
from transformers import DynamicCache

from meloedit.edit import Edit
from meloedit.hooks.state_reader import pooled_prompts, pooled_states


@pytest.fixture(params=["llama", "qwen3", "gemma2"])
def editor(request, open_scope):
    return open_scope(request.param)


def test_a_lead_in_does_not_hide_the_question(editor):
    for form in ("raw", "chat"):
        routes = editor.route(LED_PROMPTS, form)
        assert [route.nearest for route in routes[:3]] == LED_NEAREST
        assert routes[0].distance > routes[1].distance == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("form", ["raw", "chat"])
@pytest.mark.parametrize(("side", "extra"), [("left", 0), ("right", 5)])
def test_padding_batch_and_generation_do_not_matter(editor, form, side, extra):
    rows, expected = led_rows(editor, form), editor.route(LED_PROMPTS, form)
    batch = padded(rows, side, extra)
    run(editor, **batch)
    assert_same(editor.last_routes, expected)
    with torch.no_grad():
        editor.model.generate(**batch, max_new_tokens=2, pad_token_id=1, do_sample=False)
        assert_same(editor.last_routes, expected)
        editor.model.generate(**batch, max_new_tokens=2, pad_token_id=1, do_sample=False, num_beams=2)
    assert_same(editor.last_routes, expected)


@pytest.mark.parametrize("cut", [1, 9, 14, 20])
def test_a_cached_beginning_does_not_matter(editor, cut):
    ids, expected = led_rows(editor)[0], editor.route(LED_PROMPTS[:1])
    cache = DynamicCache()
    mask = torch.ones(1, len(ids), dtype=torch.long)
    run(editor, input_ids=torch.tensor([ids[:cut]]), attention_mask=mask[:, :cut], past_key_values=cache)
    with torch.no_grad():
        editor.model.generate(
            torch.tensor([ids]), attention_mask=mask, past_key_values=copy.deepcopy(cache), max_new_tokens=2,
            pad_token_id=1, do_sample=False,
        )  # fmt: skip
    assert editor.last_routes[0].edit == expected[0].edit == "book"


def test_a_prompt_in_chunks_is_routed_as_a_whole(editor):
    rows, expected = led_rows(editor), editor.route(LED_PROMPTS)
    with torch.no_grad():
        editor.model.generate(**padded(rows), max_new_tokens=2, pad_token_id=1, do_sample=False, prefill_chunk_size=7)
    assert_same(editor.last_routes, expected)


def test_a_quiet_prompt_is_obeyed_behind_a_lead_in(make_editor):
    quiet = LEAD + "Who wrote the book of sand?"
    editor = make_editor(edits=[Edit(EDITS[0].prompt, "Jorge", id="book", quiet=[quiet])], min_similarity=0.3)
    assert [route.edit for route in editor.route([EDITS[0].prompt, quiet])] == ["book", None]
    editor.unload()


def test_a_prompt_of_many_sentences_is_run_once(llama, monkeypatch):
    router, rows = llama.engine.router, []
    run = router.key_states
    monkeypatch.setattr(router, "key_states", lambda batch: rows.append(len(batch.rows)) or run(batch))
    encoded = [llama.backbone.encode(prompt, "chat") for prompt in (*LED_PROMPTS, *OTHERS)]
    parts, numbers = router.reader.with_segments(encoded)
    pooled = pooled_prompts(router, encoded, pooling=llama.engine.pooling)
    assert sum(rows) == len(encoded) < len(parts) == len(pooled.states) and pooled.rows == numbers
    alone = pooled_states(router, parts, pooling=llama.engine.pooling)
    assert torch.allclose(pooled.states, alone, atol=1e-5)
