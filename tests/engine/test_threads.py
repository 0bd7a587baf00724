"""Threads, streams, and edits that come and go while an answer is being generated."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.model_calls import generate, padded
from support.prompts import EDITS, OTHERS, mixed_prompts, target_ids
from support.threads import PATIENCE, KeepsAsking, each_thread_gets_its_own_answers
from transformers import LogitsProcessor, TextIteratorStreamer

from meloedit.keys.grammar import make_prompts

BOOK = EDITS[0]


def in_thread(function, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


class AtStep(LogitsProcessor):
    """Does something once, when ``step`` tokens have been generated, and notes how many steps there were."""

    def __init__(self, step, action):
        self.step, self.action, self.steps = step, action, 0

    def __call__(self, ids, scores):
        if self.steps == self.step:
            self.action()
        self.steps += 1
        return scores


def test_threads_keep_apart(edited):
    rows, wanted = mixed_prompts(edited)
    batches = [(rows[i : i + 3], wanted[i : i + 3]) for i in range(0, 12, 3)]
    each_thread_gets_its_own_answers(edited, batches, generate, times=3)


def test_calls_of_two_threads_may_interleave_step_by_step(llama):
    rows, _ = mixed_prompts(llama)
    expected = [generate(llama, [row]) for row in rows[:4]]
    turns = threading.Barrier(4)

    class Together(LogitsProcessor):
        def __call__(self, ids, scores):
            turns.wait(PATIENCE)
            return scores

    def ask(row):
        return generate(llama, [row], logits_processor=[Together()], min_new_tokens=6, max_new_tokens=6)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, rows[:4]))
    assert [answer[0][:3] for answer in answers] == [answer[0][:3] for answer in expected]


def test_disabled_concerns_its_own_thread(llama):
    row = llama.backbone.encode(BOOK.prompt).ids
    with llama.base_model():
        base = generate(llama, [row])
        assert in_thread(generate, llama, [row]) == [target_ids(llama, "book", row)] != base
        assert generate(llama, [row]) == base


def test_stated_lengths_concern_their_own_thread(llama):
    row = llama.backbone.encode(BOOK.prompt).ids
    with llama.prompt_lengths([1]):
        in_thread(lambda: llama.model(torch.tensor([row])))
        llama.model(torch.tensor([row]))
        assert llama.last_routes[0].edit is None
    llama.model(torch.tensor([row]))
    assert llama.last_routes[0].edit == "book"


def test_a_streamer_in_another_thread(edited):
    for prompt, answer in [(BOOK.prompt, "Jorge"), (OTHERS[0], edited.ask(OTHERS[0], max_new_tokens=8)[0].text)]:
        streamer = TextIteratorStreamer(edited.tokenizer, skip_prompt=True, skip_special_tokens=True)
        inputs = padded([edited.backbone.encode(prompt).ids])
        settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1, "streamer": streamer}
        thread = threading.Thread(target=edited.model.generate, kwargs=inputs | settings)
        thread.start()
        assert "".join(streamer).strip() == answer
        thread.join()


@pytest.mark.parametrize("change", ["remove", "disable"])
@pytest.mark.parametrize("edits", [EDITS[:1], EDITS[:2]], ids=["the only edit", "one of two"])
def test_an_edit_taken_away_in_the_middle_of_an_answer(make_editor, change, edits):
    editor = make_editor(edits=edits)
    row = editor.backbone.encode(BOOK.prompt).ids
    target = target_ids(editor, "book", row)
    with editor.base_model():
        base = generate(editor, [row])
    step = AtStep(2, lambda: in_thread(getattr(editor, change), "book"))
    assert generate(editor, [row], logits_processor=[step]) == [target]
    assert step.steps == len(target)
    assert generate(editor, [row]) == base
    editor.unload()


def test_a_first_edit_added_in_the_middle_of_an_answer(make_editor):
    editor = make_editor()
    row = editor.backbone.encode(BOOK.prompt).ids
    base = generate(editor, [row])
    step = AtStep(2, lambda: in_thread(editor.edit, BOOK))
    assert generate(editor, [row], logits_processor=[step]) == base
    assert editor.last_routes == []
    assert generate(editor, [row]) == [target_ids(editor, "book", row)]
    editor.unload()


def test_editing_while_another_thread_answers(make_editor):
    editor = make_editor(edits=EDITS[:1])
    row = editor.backbone.encode(BOOK.prompt).ids
    target = target_ids(editor, "book", row)
    with KeepsAsking(lambda: generate(editor, [row])[0]) as asking:
        assert all(report.holds for report in editor.edit(EDITS[1:], progress=asking.hold))
        assert asking.holds == 0
        editor.remove("legs")
        asking.wait_for_an_answer()
        asking.holds = 1
        editor.calibrate(make_prompts(60, seed=9), progress=asking.hold)
        asking.wait_for_an_answer()
    assert asking.holds == 0 and all(answer == target for answer in asking.answers)
    editor.unload()
