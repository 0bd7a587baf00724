"""Encoder outputs that a caller passes on: their routes go with them, and states from elsewhere are refused."""

import pytest
import torch
from support.encoder_checks import BOTH, logits_of
from support.model_calls import padded, source_answers, source_inputs
from support.prompts import BOOK, FACTS, source_prompts, source_target
from support.tiny_models import END
from transformers.modeling_outputs import BaseModelOutput

from meloedit.errors import RoutingError


def test_states_of_this_models_encoder_are_routed(t5):
    rows, wanted = source_prompts(t5)
    inputs = source_inputs(t5, rows)
    expected, answers = logits_of(t5, rows), source_answers(t5, rows)
    encode = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    decoder = {"decoder_input_ids": inputs["decoder_input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        states = t5.model.get_encoder()(**encode)
        t5.model(**source_inputs(t5, [rows[1]]))  # another call in between
        for given in (states, (states[0],), BaseModelOutput(last_hidden_state=states[0])):
            assert torch.equal(t5.model(**decoder, encoder_outputs=given).logits, expected)
            assert [route.edit for route in t5.last_routes] == wanted
        made = t5.model.generate(encoder_outputs=states, attention_mask=encode["attention_mask"], max_new_tokens=8)
        with t5.base_model():
            base = t5.model.get_encoder()(**encode)[0]
            with_base = t5.model(**decoder, encoder_outputs=states).logits
    assert torch.equal(states[0], base)  # only the decoder is edited
    assert [row[1 : 1 + len(answer)] for row, answer in zip(made.tolist(), answers, strict=True)] == answers
    for i, edit in enumerate(wanted):
        assert torch.equal(with_base[i], expected[i]) == (edit is None)


def test_states_from_elsewhere_are_refused(t5):
    rows, _ = source_prompts(t5)
    with t5.base_model(), torch.no_grad():
        outside = t5.model.get_encoder()(**padded(rows, "right"))
    decoder = {"decoder_input_ids": torch.tensor([[1]] * len(rows))}
    for states in (outside, (torch.zeros(6, 5, 32),)):
        with pytest.raises(RoutingError, match="not made by the edited model: pass input_ids"):
            t5.model(**decoder, encoder_outputs=states)
        with t5.base_model(), torch.no_grad():
            assert t5.model(**decoder, encoder_outputs=states).logits.shape == (6, 1, 400)
    assert source_answers(t5, [rows[1]]) == [source_target(t5, "book")]


def test_without_edits_states_from_anywhere_will_do(make_source_editor):
    editor = make_source_editor("t5")
    states = (torch.ones(2, 5, 32),)
    decoder = {"decoder_input_ids": torch.tensor([[1], [1]])}
    with torch.no_grad():
        before = editor.model(**decoder, encoder_outputs=states).logits
        editor.edit(BOOK)
        with pytest.raises(RoutingError):
            editor.model(**decoder, encoder_outputs=states)
        editor.disable("book")
        assert torch.equal(editor.model(**decoder, encoder_outputs=states).logits, before)
    editor.unload()


def test_states_of_other_rows_are_refused(t5):
    with torch.no_grad():
        states = t5.model.get_encoder()(torch.tensor([[5, 6, END]]))[0]
        states.data = states.data.expand(2, -1, -1)
        with pytest.raises(RoutingError, match="routed for 1 rows and now has 2"):
            t5.model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([[1], [1]]))


def test_a_decoder_called_by_hand_gives_base_states(t5):
    decoder, ids = t5.model.get_decoder(), torch.tensor([[1, 45, 270]])
    with torch.no_grad():
        states = t5.model.get_encoder()(torch.tensor([t5.backbone.encode(BOOK.prompt).ids]))[0]
        found = decoder(input_ids=ids, encoder_hidden_states=states)[0]
        routed = t5.model(encoder_outputs=(states,), decoder_input_ids=ids, output_hidden_states=True)
        again = decoder(input_ids=ids, encoder_hidden_states=states)[0]
        with t5.base_model():
            base = decoder(input_ids=ids, encoder_hidden_states=states)[0]
    assert torch.equal(found, base) and torch.equal(again, base)
    assert not torch.equal(routed.decoder_hidden_states[-1], base)


def test_an_edited_encoder_called_by_hand_gives_its_routed_states(make_source_editor):
    editor = make_source_editor("t5", FACTS, modules=BOTH, reach="all")
    rows, wanted = source_prompts(editor)
    inputs = padded(rows, "right")
    with torch.no_grad():
        states = editor.model.get_encoder()(**inputs)[0]
        within = editor.model(**source_inputs(editor, rows)).encoder_last_hidden_state
        with editor.base_model():
            base = editor.model.get_encoder()(**inputs)[0]
    assert torch.equal(states, within)
    for i, edit in enumerate(wanted):
        assert torch.equal(states[i], base[i]) == (edit is None)
    editor.unload()


def test_own_encoder_outputs_may_be_repeated_for_beams(t5):
    inputs = {"input_ids": torch.tensor([t5.backbone.encode(str(t5.edits()[0].edit.prompt)).ids])}
    with torch.no_grad():
        states = t5.model.get_encoder()(**inputs)
        own = t5.model.generate(encoder_outputs=states, num_beams=3, num_return_sequences=2, max_new_tokens=8)
        assert torch.equal(own, t5.model.generate(**inputs, num_beams=3, num_return_sequences=2, max_new_tokens=8))
    assert t5.last_routes[0].edit == t5.edits()[0].edit.id
