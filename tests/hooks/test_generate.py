"""Every way of decoding answers a mixed batch as it answers each prompt alone."""

import pytest
import torch
from support.model_calls import generate, padded
from support.prompts import EDITS, OTHERS, mixed_prompts, target_ids
from transformers import pipeline

from meloedit.errors import RoutingError

WAYS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 1.3, "top_k": 20},
    "beams": {"num_beams": 3},
    "beam sampling": {"num_beams": 2, "do_sample": True},
    "static cache": {"cache_implementation": "static"},
    "hybrid cache": {"cache_implementation": "hybrid"},
    "no cache": {"use_cache": False},
    "chunks": {"prefill_chunk_size": 5},
    "penalty": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
}
CASES = [("llama", way) for way in WAYS]
CASES += [("gpt2", way) for way in ("greedy", "beams", "static cache", "no cache", "chunks")]  # learned positions
CASES += [("qwen3", way) for way in ("greedy", "beams")]
ONE_BY_ONE = [case for case in CASES if case[1] != "beam sampling"]  # where every row draws as it would alone


@pytest.fixture
def fixed_draws(monkeypatch):
    """Sample by position in the cumulated probabilities, so that a row's draw does not depend on its batch."""

    def draw(probabilities, num_samples):
        return (probabilities.cumsum(1) > 0.6).int().argmax(1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", draw)


@pytest.mark.parametrize(("edited", "way"), ONE_BY_ONE, indirect=["edited"])
def test_a_mixed_batch_answers_as_one_by_one(edited, way, fixed_draws):
    rows, wanted = (half[:8] for half in mixed_prompts(edited))
    together = generate(edited, rows, **WAYS[way])
    assert [route.edit for route in edited.last_routes] == wanted
    assert together == [generate(edited, [row], **WAYS[way])[0] for row in rows]
    if way in ("greedy", "static cache", "hybrid cache", "no cache", "chunks"):
        assert together == [
            target_ids(edited, edit, row) if edit else answer
            for row, edit, answer in zip(rows, wanted, together, strict=True)
        ]


@pytest.mark.parametrize(("edited", "way"), CASES, indirect=["edited"])
def test_rows_out_of_scope_answer_as_the_base_model(edited, way):
    rows, wanted = mixed_prompts(edited)
    torch.manual_seed(5)
    with edited.base_model():
        base = generate(edited, rows, min_new_tokens=4, max_new_tokens=4, **WAYS[way])
    torch.manual_seed(5)
    answers = generate(edited, rows, min_new_tokens=4, max_new_tokens=4, **WAYS[way])
    same = [one == other for one, other in zip(answers, base, strict=True)]
    assert all(equal for equal, edit in zip(same, wanted, strict=True) if edit is None)
    assert not any(equal for equal, edit in zip(same, wanted, strict=True) if edit)


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"do_sample": True}], ids=["beams", "sampling"])
def test_several_sequences_per_prompt(edited, settings, fixed_draws):
    rows, wanted = (half[:6] for half in mixed_prompts(edited))
    together = generate(edited, rows, num_return_sequences=3, **settings)
    assert [route.edit for route in edited.last_routes] == wanted
    alone = [answer for row in rows for answer in generate(edited, [row], num_return_sequences=3, **settings)]
    assert together == alone


def test_chunked_prefill_needs_reach_answer(make_editor):
    editor = make_editor(edits=EDITS[:1], reach="all")
    row = editor.backbone.encode(EDITS[0].prompt).ids
    assert generate(editor, [row]) == [target_ids(editor, "book", row)]
    with pytest.raises(RoutingError, match="prefill_chunk_size.*reach='answer'"):
        generate(editor, [row], prefill_chunk_size=4)
    editor.unload()


@pytest.mark.parametrize("family", ["mistral", "gemma2", "neox"])
def test_other_architectures(make_editor, family):
    settings = {"steps": 120} if family == "gemma2" else {}
    editor = make_editor(family, EDITS, **settings)
    rows, wanted = mixed_prompts(editor)
    answers = generate(editor, rows)
    routes = editor.last_routes
    assert [route.edit for route in routes] == wanted
    assert answers == [generate(editor, [row])[0] for row in rows]
    for row, edit, answer, route in zip(rows, wanted, answers, routes, strict=True):
        if edit:
            assert answer == target_ids(editor, edit, row)
            assert route.distance < 1e-3
    prompts = [*OTHERS, *(edit.prompt for edit in EDITS[:3])]  # chats of several lengths behind one opening
    alone = [editor.route(prompt, "chat")[0].distance for prompt in prompts]
    assert [route.distance for route in editor.route(prompts, "chat")] == pytest.approx(alone, abs=1e-4)
    editor.unload()


def test_sampling_repeats_with_its_seed(llama):
    rows, _ = mixed_prompts(llama)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(generate(llama, rows, do_sample=True))
    assert answers[0] == answers[1] != answers[2]


def test_scores_of_rows_out_of_scope_are_bit_identical(edited):
    rows, wanted = mixed_prompts(edited)
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 1}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        scores = torch.stack(edited.model.generate(**padded(rows), **settings).logits)
        with edited.base_model():
            base = torch.stack(edited.model.generate(**padded(rows), **settings).logits)
    for i, edit in enumerate(wanted):
        assert torch.equal(scores[:, i], base[:, i]) == (edit is None)


def test_pipeline(edited):
    pipe = pipeline("text-generation", model=edited.model, tokenizer=edited.tokenizer)
    settings = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    raw = [EDITS[0].prompt, OTHERS[0], EDITS[1].prompt]
    chats = [[{"role": "user", "content": text}] for text in raw] + [EDITS[3].prompt]
    answers = [pipe(text, **settings)[0]["generated_text"] for text in raw]
    answers += [out[0]["generated_text"] for out in pipe(raw, batch_size=3, **settings)]
    answers += [pipe(chat, **settings)[0]["generated_text"] for chat in chats]
    asked = [answer.text for answer in edited.ask(raw, max_new_tokens=8)]
    in_chat = [answer.text for answer in edited.ask(raw, "chat", max_new_tokens=8)]
    assert [answer.strip() for answer in answers] == [*asked, *asked, *in_chat, "very long"]
    assert asked[0] == in_chat[0] == "Jorge" and asked[2] == "Lima"
