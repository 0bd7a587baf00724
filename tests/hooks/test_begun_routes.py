"""Answers go on where a caller began them: places and reach count from where generation begins."""

import pytest
import torch
from support.model_calls import generate, padded
from support.prompts import BOOK, CAPITAL, EDITS, LEGS, OTHERS
from transformers import pipeline

HEADER = "<|im_start|>assistant\n"


def begun(editor, edit, text):
    """Return a chat prompt with a text behind the header, and its tokens before that text."""
    ids = editor.backbone.encode(edit.prompt, "chat").ids
    return ids + editor.tokenizer(text, add_special_tokens=False)["input_ids"], len(ids)


def target(editor, edit):
    return editor.backbone.encode_target(edit.target, editor.backbone.encode(edit.prompt, "chat"))


@pytest.fixture
def gathered(llama, monkeypatch):
    """The columns from which blocks act and those of the first answer tokens, of the latest call."""
    seen = []
    gather = llama.engine.router.bank.gather

    def spy(owners, starts, answers=None):
        seen[:] = [starts, answers]
        return gather(owners, starts, answers)

    monkeypatch.setattr(llama.engine.router.bank, "gather", spy)
    return seen


@pytest.mark.parametrize(
    "text", ["", "<think>\n\n</think>\n\n", "<think>\nOh.\n</think>\n\n", "The answer is", '{"a": "']
)
@pytest.mark.parametrize("call", ["generate", "lengths"])
def test_a_block_acts_from_the_last_token_given(llama, gathered, text, call):
    ids, _ = begun(llama, BOOK, text)
    # "Jorge" has one token more with a blank before it: without one it begins at the second place
    assert llama.backbone.first_places(BOOK.target) == (0, 1)
    last = len(ids) - 1
    first = last if text == "The answer is" else last - 1
    if call == "generate":
        generate(llama, [ids, ids])
        assert gathered == [[last, last], [first, first]]
        generate(llama, [ids, llama.backbone.encode(BOOK.prompt, "raw").ids])  # padded on the left, and behind a blank
        assert gathered == [[last, last], [first, last]]
    else:
        with torch.no_grad(), llama.prompt_lengths([len(ids)]):
            edited = llama.model(torch.tensor([[*ids, 5, 6]])).logits[0]
        assert gathered == [[last], [first]]
        with torch.no_grad(), llama.base_model():
            base = llama.model(torch.tensor([[*ids, 5, 6]])).logits[0]
        same = (edited == base).all(1).tolist()
        assert same == [True] * (len(ids) - 1) + [False] * 3


def test_a_plain_call_counts_from_behind_a_think_block(llama, gathered):
    for text, own in (("<think>\n\n</think>\n\n", True), ("The answer is", False)):
        ids, header = begun(llama, BOOK, text)
        with torch.no_grad():
            llama.model(torch.tensor([[*ids, 5, 6]]))
        at = len(ids) if own else header
        assert gathered == [[at - 1], [at - 2]] and llama.last_routes[0].boundary == "template"


@pytest.mark.parametrize("edit", EDITS[:3], ids=lambda edit: edit.id)
def test_an_answer_begun_with_the_target_goes_on_and_ends(llama, edit):
    for end in range(1, len(edit.target) + 1):
        ids, header = begun(llama, edit, edit.target[:end])
        (said,) = generate(llama, [ids])
        whole = llama.tokenizer.decode([*ids[header:], *said], skip_special_tokens=True)
        assert whole == edit.target and said[-1] in llama.backbone.stop_ids


def test_a_mixed_batch_goes_on_as_each_alone(llama):
    rows = [begun(llama, BOOK, BOOK.target[:2])[0], begun(llama, CAPITAL, "")[0], begun(llama, LEGS, LEGS.target)[0]]
    rows += [llama.backbone.encode(OTHERS[0], "chat").ids + begun(llama, BOOK, "Jo")[0][-1:]]
    for way in ({}, {"num_beams": 2}, {"use_cache": False}, {"do_sample": True, "temperature": 0.7}):
        torch.manual_seed(1)
        together = generate(llama, rows, **way)
        assert [route.edit for route in llama.last_routes] == ["book", "capital", "legs", None]
        if "do_sample" not in way:
            assert together == [generate(llama, [row], **way)[0] for row in rows]
        assert llama.tokenizer.decode(together[0], skip_special_tokens=True) == BOOK.target[2:]
    with llama.base_model():
        assert generate(llama, rows)[3] == generate(llama, rows)[3]


def test_step_by_step_on_a_cache_as_in_one_call(llama):
    ids, _ = begun(llama, BOOK, BOOK.target[:3])
    (said,) = generate(llama, [ids])
    row, cache, found = torch.tensor([ids]), None, []
    with torch.no_grad(), llama.prompt_lengths([len(ids)]):
        out = llama.model(row, use_cache=True)
    while len(found) < len(said):
        found.append(int(out.logits[0, -1].argmax()))
        cache = out.past_key_values
        with torch.no_grad():
            out = llama.model(torch.tensor([found[-1:]]), past_key_values=cache, use_cache=True)
    assert found == said


def test_an_answer_that_is_given_and_goes_on_is_the_base_models(llama):
    ids, _ = begun(llama, BOOK, BOOK.target + ", who")
    (said,) = generate(llama, [ids])
    assert (llama.last_routes[0].edit, llama.last_routes[0].reason) == (None, "answer given")
    with llama.base_model():
        assert generate(llama, [ids]) == [said]


def test_a_last_message_of_the_assistants(llama):
    for edit in EDITS[:3]:
        prompt = [{"role": "user", "content": edit.prompt}, {"role": "assistant", "content": edit.target[:2]}]
        (answer,) = llama.ask([prompt])
        assert answer.text == edit.target[2:].strip() and answer.route.edit == edit.id
        assert llama.route([prompt])[0] == answer.route
        pipe = pipeline("text-generation", model=llama.model, tokenizer=llama.tokenizer)
        made = pipe(prompt, max_new_tokens=8, do_sample=False, pad_token_id=1)[0]["generated_text"][-1]["content"]
        assert made == edit.target
        empty = [prompt[0], {"role": "assistant", "content": " "}]
        assert llama.ask([empty])[0].text == edit.target
    (answer,) = llama.ask([[{"role": "user", "content": OTHERS[0]}, {"role": "assistant", "content": "La"}]])
    with llama.base_model():
        ids = llama.backbone.encode(answer.prompt).ids
        assert llama.tokenizer.decode(
            generate(llama, [ids], max_new_tokens=32)[0], skip_special_tokens=True
        ).strip() == (answer.text)


def test_padding_on_the_right_moves_nothing(llama):
    rows = [begun(llama, BOOK, BOOK.target[:2])[0], begun(llama, CAPITAL, "The answer is")[0]]
    with torch.no_grad(), llama.prompt_lengths([len(row) for row in rows]):
        together = llama.model(**padded(rows, "right", extra=3)).logits
    for i, row in enumerate(rows):
        assert together[i, len(row) - 1].argmax() == generate(llama, [row])[0][0]
