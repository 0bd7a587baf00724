"""The running batch itself: rows join and leave, routes stay, text comes in pieces that are never taken back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import FAMILIES as KINDS
from support.prompts import EDITS, OTHERS

from meloedit.serve.running.batch import RunningBatch
from meloedit.serve.running.choosing import Chooser, Sampling
from meloedit.serve.running.text import AnswerText
from meloedit.serve.running.ticket import Done, Failed, Piece, Started, Ticket


class Asking:
    """Tickets of a batch, and what was told about each."""

    def __init__(self, editor, size=8):
        self.editor, self.batch, self.told = editor, RunningBatch(editor, size), []

    def admit(self, *asked):
        """Let in (prompt, form, tokens, unedited); return their numbers."""
        tickets = []
        for prompt, form, tokens, unedited in asked:
            told = []
            self.told.append(told)
            encoded = self.editor.engine.backbone.encode(prompt, form)
            tickets.append(Ticket(prompt, encoded, Sampling(tokens), told.append, unedited))
        self.batch.admit(tickets)
        return tickets

    def run(self):
        while len(self.batch):
            self.batch.step()

    def text(self, number):
        told = self.told[number]
        assert isinstance(told[0], Started) and isinstance(told[-1], Done), told
        return ("".join(one.text for one in told if isinstance(one, Piece)) + told[-1].rest).strip()


def alone(editor, prompt, form, tokens, unedited):
    if not unedited:
        return editor.ask([prompt], form=form, max_new_tokens=tokens)[0].text
    with editor.base_model():
        return editor.ask([prompt], form=form, max_new_tokens=tokens)[0].text


MIXED = [(edit.prompt, None, 6, False) for edit in EDITS] + [(text, "chat", 20, False) for text in OTHERS]
MIXED += [(EDITS[0].prompt, "chat", 12, True), (OTHERS[1], "raw", 3, False), (EDITS[2].prompt, "chat", 9, False)]


def test_rows_that_join_and_leave_say_what_they_say_alone(llama):
    asking = Asking(llama)
    wanted = [alone(llama, *asked) for asked in MIXED]
    for asked in MIXED:  # one more at each second step: some leave meanwhile
        asking.admit(asked)
        for _ in range(2):
            if len(asking.batch):
                asking.batch.step()
    asking.run()
    assert [asking.text(number) for number in range(len(MIXED))] == wanted
    routes = [told[0].route.edit for told in asking.told]
    assert routes == ["book", "capital", "legs", "river", None, None, None, None, None, "legs"]
    assert asking.told[7][0].reason == "unedited"


def test_columns_that_are_padding_everywhere_are_cut_off(llama):
    asking = Asking(llama)
    asking.admit((OTHERS[1] * 4, "chat", 3, False), (OTHERS[0], "raw", 30, False))
    before = asking.batch._cohort.mask.shape[1]
    while asking.told[0][-1].__class__ is not Done:
        asking.batch.step()
    assert len(asking.batch) == 1 and asking.batch._cohort.mask.shape[1] < before / 2
    assert asking.batch._cohort.cache.get_seq_length() == asking.batch._cohort.mask.shape[1]
    asking.run()
    assert asking.text(1) == alone(llama, OTHERS[0], "raw", 30, False)


ALONE = ("Qwen3-Next", "Llama 4", "Bloom")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Qwen3-Next", "GPT-OSS", "Mixtral", "DeepSeek V3", "Gemma 3 (text)", "Llama 4", "OPT", "Bloom"]
)
def test_other_kinds_of_layers(make_editor, tokenizer, name):
    """States that cannot be cut, windows, experts that get tokens without rows, narrow keys."""
    model = next(kind for kind in KINDS if kind.name == name).build(len(tokenizer), tokenizer.eos_token_id)
    editor = make_editor(edits=EDITS[:2], model=model, min_similarity=0.5)
    asking, asked = Asking(editor), MIXED[:2] + MIXED[4:8]
    assert asking.batch.size == (1 if name in ALONE else 8)
    for one in asked:
        if len(asking.batch) == asking.batch.size:
            asking.run()
        asking.admit(one)
        asking.batch.step()
    asking.run()
    assert [asking.text(number) for number in range(len(asked))] == [alone(editor, *one) for one in asked]
    editor.unload()


@pytest.mark.parametrize("change", ["remove", "first"])
def test_a_route_stays_however_the_edits_change(make_editor, change):
    editor = make_editor(edits=[] if change == "first" else EDITS[:2])
    wanted = [alone(editor, edit.prompt, "chat", 8, False) for edit in EDITS[:2]]
    asking = Asking(editor)
    asking.admit(*((edit.prompt, "chat", 8, False) for edit in EDITS[:2]))
    if change == "first":
        editor.edit(EDITS[0])
    else:
        editor.remove("book")
    asking.batch.step()
    asking.admit((EDITS[0].prompt, "chat", 8, False))
    asking.run()
    assert [asking.text(0), asking.text(1)] == wanted
    assert asking.text(2) == alone(editor, EDITS[0].prompt, "chat", 8, False) != wanted[0]
    assert asking.told[2][0].revision == editor.store.revision == asking.told[0][0].revision + 1 + (change == "first")
    editor.unload()


def test_a_row_that_nobody_waits_for_leaves(llama):
    asking = Asking(llama)
    first, second, _ = asking.admit(*((text, "chat", 20, False) for text in OTHERS))
    first.cancelled = True
    second.deadline = 0.0
    asking.batch.step()
    assert len(asking.batch) == 1 and not isinstance(asking.told[0][-1], Failed)
    assert isinstance(asking.told[1][-1].error, TimeoutError)
    asking.run()
    assert asking.text(2) == alone(llama, OTHERS[2], "chat", 20, False)


@pytest.mark.slow
def test_blocks_that_act_on_every_token_join_too(make_editor):
    editor = make_editor(edits=EDITS[:2], reach="all")
    asking = Asking(editor)
    asked = [(EDITS[0].prompt, "raw", 6, False), (OTHERS[1], "chat", 9, False), (EDITS[1].prompt, "chat", 6, False)]
    for one in asked:
        asking.admit(one)
        asking.batch.step()
    asking.run()
    assert [asking.text(i) for i in range(3)] == [alone(editor, *one) for one in asked]
    editor.unload()


@pytest.mark.slow
def test_penalties_that_a_model_ships_are_followed(make_editor, make_model):
    model = make_model("llama")
    model.generation_config.repetition_penalty = 1.7
    model.generation_config.no_repeat_ngram_size = 2
    editor = make_editor(edits=EDITS[:1], model=model)
    asking = Asking(editor)
    asked = [(text, "chat", 20, False) for text in OTHERS]
    asking.admit(*asked)
    asking.run()
    assert [asking.text(i) for i in range(3)] == [
        editor.ask([one[0]], form="chat", max_new_tokens=20)[0].text for one in asked
    ]
    editor.unload()


# -- tokens and text

WORDS = ["Ilse", " Tar", "rant", "\n\n", "EN", "D", " stop", "é", "日本"]


def decode(ids):
    """A vocabulary of bytes: a token is one byte of a text."""
    return bytes(ids).decode("utf-8", "replace")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(WORDS), max_size=12),
    st.lists(st.sampled_from(["END", "rant\n", "op", "本", "zz"]), max_size=3),
)
def test_text_in_pieces_is_the_text_cut_before_a_stop(words, stops):
    whole = "".join(words)
    cut = min([at for stop in stops if (at := whole.find(stop)) >= 0], default=len(whole))
    text, pieces = AnswerText(decode, stops), []
    for token in whole.encode():
        pieces.append(text.push(token))
        if text.stopped:
            break
    pieces.append(text.end())
    assert "".join(pieces) == text.text == whole[:cut]
    assert text.stopped == (cut < len(whole))
    assert "\ufffd" not in "".join(pieces)


def test_top_p_keeps_the_likeliest_tokens_alone():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    def drawn(**fields):
        chooser = Chooser(Sampling(1, **fields), [], torch.device("cpu"))
        return {chooser.choose(logits, []).token for _ in range(300)}

    assert drawn(temperature=1.0, seed=1) == {0, 1, 2, 3}
    assert drawn(temperature=1.0, seed=1, top_p=0.6) == {0, 1}
    assert drawn(temperature=1.0, seed=1, top_p=0.5) == {0}
    assert drawn(temperature=0.01, seed=1) == drawn() == {0}
