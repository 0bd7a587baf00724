"""Encoder-decoders and classifiers: threads, and errors in the middle of a call."""

import pytest
import torch
from support.encoder_checks import assert_same_portrait, logits_of, portrait
from support.model_calls import source_answers
from support.prompts import BOOK, source_edits, source_prompts
from support.threads import KeepsAsking, each_thread_gets_its_own_answers


def test_threads_keep_apart(sourced):
    rows, wanted = source_prompts(sourced)
    parts = [(rows[i : i + 2], wanted[i : i + 2]) for i in (0, 2, 4)]
    each_thread_gets_its_own_answers(sourced, parts, source_answers, times=4)


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
def test_a_thread_may_ask_while_another_edits(make_source_editor, family):
    edits = source_edits(family)
    editor = make_source_editor(family, edits[:1])
    row = editor.backbone.encode(BOOK.prompt).ids
    expected = source_answers(editor, [row])
    with KeepsAsking(lambda: source_answers(editor, [row])) as asking:
        reports = editor.edit(edits[1:], progress=asking.hold)  # training skips the lower layers meanwhile
        assert all(report.holds for report in reports)
    assert asking.holds == 0 and all(answer == expected for answer in asking.answers)
    editor.unload()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["below the key", "above the blocks"])
def test_an_error_in_a_forward_pass_leaves_nothing_behind(sourced, error, place):
    rows, _ = source_prompts(sourced)
    expected = portrait(sourced)
    with sourced.base_model():
        base = logits_of(sourced, rows)
    (_, first), (_, last) = sourced.backbone.stacks[0], sourced.backbone.stacks[-1]

    def fail(*_):
        raise error("stop")

    handle = (first[0] if place == "below the key" else last[-1]).register_forward_hook(fail)
    for call in (logits_of, source_answers):
        with pytest.raises(error, match="stop"):
            call(sourced, rows)
    handle.remove()
    with sourced.base_model():
        assert torch.equal(logits_of(sourced, rows), base)
    assert_same_portrait(portrait(sourced), expected)


def test_bad_input_leaves_nothing_behind(sourced):
    expected = portrait(sourced)
    with pytest.raises(IndexError):
        logits_of(sourced, [[10_000]])
    with pytest.raises(Exception, match="input_ids"):
        sourced.model()
    assert_same_portrait(portrait(sourced), expected)
