"""Encoder-decoders: prompts and targets as tokens, and settings that do not fit them."""

import pytest
from support.encoder_checks import BOTH
from support.prompts import BOOK, HISTORY, SETTINGS
from support.tiny_models import END
from transformers import BertConfig, BertForMaskedLM, BertModel

from meloedit import Edit, Editor, MeloConfig
from meloedit.errors import EditError, ModelError


def test_prompts_and_targets_as_tokens(t5):
    encoded = t5.backbone.encode("Is it late?")
    assert encoded.ids[-1] == END and encoded.form == "raw"
    assert (encoded.span.start, encoded.span.stop) == (0, len(encoded.ids) - 1)  # all but the end token
    target = t5.backbone.encode_target(" Lima ", encoded)
    assert target[-1] == END and t5.tokenizer.decode(target[:-1]) == "Lima"
    assert t5.backbone.text_of(target) == "Lima"
    assert [form.form for form in t5.backbone.forms(BOOK.prompt)] == ["raw"]
    with pytest.raises(EditError, match="special token '</s>'"):
        t5.edit(Edit("Why?", "yes</s>no"))


def test_a_chat_prompt_is_refused(sourced):
    revision = sourced.store.revision
    with pytest.raises(EditError, match=r"edit 'x': .*has no chat form: give the prompt as one string"):
        sourced.edit(Edit(HISTORY, sourced.edits()[0].edit.target, id="x"))
    with pytest.raises(EditError, match="has no chat form"):
        sourced.ask(BOOK.prompt, "chat")
    assert sourced.store.revision == revision


def test_an_encoder_may_not_be_edited_with_reach_answer(make_source):
    model, tokenizer = make_source("t5")
    with pytest.raises(ModelError, match="blocks in the encoder act on the prompt: edit decoder modules, or set reach"):
        Editor(model, tokenizer, MeloConfig(modules=BOTH))
    with pytest.raises(ModelError, match=r"'decoder.block.0' must lie where the prompt is read, in encoder.block.0 to"):
        Editor(model, tokenizer, MeloConfig(key_layer="decoder.block.0"))
    with pytest.raises(ModelError, match=r"'encoder.block.2' must lie below the first edited layer, encoder.block.2"):
        Editor(model, tokenizer, MeloConfig(modules=BOTH, reach="all", key_layer="encoder.block.2"))
    assert "generate" not in vars(model) and not model.encoder._forward_hooks


def test_models_of_other_kinds_are_refused(make_source):
    _, tokenizer = make_source("bert")
    t5, _ = make_source("t5")
    size = {"vocab_size": 400, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(**size, num_hidden_layers=5, initializer_range=0.4)
    for model, message in [
        (BertModel(config), "BertModel is neither a causal language model nor an encoder-decoder nor a"),
        (BertForMaskedLM(config), "BertForMaskedLM is not a causal language model"),
    ]:
        with pytest.raises(ModelError, match=message):
            Editor(model, tokenizer)
    t5.config.decoder_start_token_id = t5.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="no decoder_start_token_id"):
        Editor(t5, tokenizer, MeloConfig(**SETTINGS))


def test_a_forced_first_token_is_part_of_the_target(make_source, make_source_editor):
    model, _ = make_source("bart")
    model.generation_config.forced_bos_token_id = 2
    editor = make_source_editor("bart", model=model)
    reports = editor.edit([Edit("Is it late?", "very late")])
    assert [report.holds for report in reports] == [editor.ask("Is it late?")[0].text == "very late"] == [True]
    with pytest.raises(EditError, match=r"the target has \d+ tokens, the model takes 64"):
        editor.edit(Edit("Why?", "yes " * 80))


def test_answers_in_a_sequence_of_their_own_are_not_told_apart_by_place(make_source_editor):
    editor = make_source_editor("t5")
    assert editor.config.answer_positions == 0
    editor.unload()
    with pytest.raises(ModelError, match="answer_positions must be 0 for T5ForConditionalGeneration"):
        make_source_editor("t5", answer_positions=8)
