"""Edits that cannot be taken are refused before training, and tokenizers of several kinds."""

import threading

import pytest
from support.causal_checks import answers
from support.prompts import BOOK, EDITS, LEGS, RIVER

from meloedit import Edit
from meloedit.engine.planning import Planner
from meloedit.errors import EditError
from meloedit.keys.grammar import make_prompts


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit("word " * 300, "yes"), r"the prompt has \d+ tokens, the model takes 256: shorten"),
        (Edit("word " * 40, "yes " * 80), r"prompt and target have \d+ tokens, the model takes 256"),
        (Edit("Why?", "<s>"), "special token '<s>'"),
        (Edit("Why?", "yes<|im_end|> and no"), r"special token '<\|im_end\|>'"),
        (Edit("Why?", "yes", variants=["word " * 300]), "the prompt has"),
        (Edit("Why?", "yes", quiet=["word " * 300]), "the prompt has"),
    ],
    ids=["prompt", "together", "special", "end", "variant", "quiet"],
)
def test_texts_that_do_not_fit_are_refused_before_training(llama, edit, message):
    revision = llama.store.revision
    with pytest.raises(EditError, match=rf"edit '{edit.id}': .*{message}"):
        llama.edit([LEGS, edit])
    assert llama.store.revision == revision


def test_chat_messages_need_a_template(make_editor, make_tokenizer):
    editor = make_editor(tokenizer=make_tokenizer(None), edits=[BOOK])
    with pytest.raises(EditError, match="need a chat template"):
        editor.edit(RIVER)
    assert answers(editor, BOOK) == ["Jorge"]
    editor.unload()


@pytest.mark.parametrize("kind", [("inst", False), ("chatml", True), (None, True)])
def test_other_tokenizers(make_editor, make_model, make_tokenizer, kind):
    tokenizer = make_tokenizer(*kind)
    model = make_model()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    edits = EDITS if kind[0] else EDITS[:3]
    editor = make_editor(model=model, tokenizer=tokenizer, edits=edits)
    assert answers(editor, *edits) == [edit.target for edit in edits]
    assert editor.check().broken == []
    unrelated = editor.route(make_prompts(300, seed=4))
    assert sum(route.edit is not None for route in unrelated) <= 20
    editor.unload()


def test_an_answer_ends_as_the_form_of_its_prompt_does(make_editor, make_model):
    model = make_model()
    model.generation_config.eos_token_id = [3, 1]  # </s> ends a text, <|im_end|> a turn
    editor = make_editor(model=model, edits=[BOOK])
    raw, chat = editor.backbone.forms(BOOK.prompt)
    assert [editor.backbone.encode_target("Jorge", form)[-1] for form in (raw, chat)] == [3, 1]
    assert editor.check().broken == []
    editor.unload()


def test_no_other_thread_changes_the_store_between_plan_and_training(llama, monkeypatch):
    free = []

    def in_another_thread():
        taken = llama.store._writer.acquire(blocking=False)
        if taken:
            llama.store._writer.release()
        free.append(taken)

    def prepare(planner, edits):
        thread = threading.Thread(target=in_another_thread)
        thread.start()
        thread.join()
        return []

    monkeypatch.setattr(Planner, "prepare", prepare)
    assert list(llama.edit_in_parts([LEGS])) == [] and free == [False]
