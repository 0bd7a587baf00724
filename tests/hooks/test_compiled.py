"""A model that was compiled, in whatever way, before the editor came: routed as the plain model is."""

import pytest
import torch
from support.prompts import BOOK, EDITS, OTHERS

SMALL = {"num_hidden_layers": 4}


def whole(model):
    return torch.compile(model, backend="eager")


def in_place(model):
    model.compile(backend="eager")
    return model


def forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def layers(model):
    for layer in model.model.layers:
        layer.compile(backend="eager")
    return model


def logits(model, tokenizer, text, **kwargs):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt"), **kwargs).logits


@pytest.fixture(scope="module", autouse=True)
def _code_compiled_here_is_dropped():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "compiled", [whole, *(pytest.param(way, marks=pytest.mark.slow) for way in (in_place, forward, layers))]
)
def test_a_model_compiled_before_the_editor_came(compiled, make_editor, make_model, tokenizer):
    """It ran without hooks. Torch does not guard on their absence, so that its code would go on without them."""
    model = make_model(**SMALL)
    called = compiled(model)
    before = {kept: logits(called, tokenizer, BOOK.prompt, use_cache=kept) for kept in (True, False)}
    editor = make_editor(model=model, edits=[BOOK], layers=2)
    for kept in (True, False):
        edited = logits(called, tokenizer, BOOK.prompt, use_cache=kept)
        assert editor.last_routes[0].edit == BOOK.id
        with torch.compiler.set_stance("force_eager"):
            assert torch.equal(edited, logits(model, tokenizer, BOOK.prompt, use_cache=kept))
        assert not torch.equal(edited, before[kept])
        other = logits(called, tokenizer, OTHERS[0], use_cache=kept)
        assert editor.last_routes[0].edit is None
        with editor.base_model():
            assert torch.equal(other, logits(called, tokenizer, OTHERS[0], use_cache=kept))
    assert editor.ask(BOOK.prompt, max_new_tokens=8)[0].text == BOOK.target
    editor.unload()
    for kept in (True, False):
        assert torch.equal(logits(called, tokenizer, BOOK.prompt, use_cache=kept), before[kept])


def test_code_compiled_for_another_model_of_the_class_is_not_taken(make_editor, make_model, tokenizer):
    """Torch keeps code by class: an unedited model that was compiled, or is called in between, says nothing."""
    plain, model = whole(make_model(**SMALL)), make_model(**SMALL)
    base = logits(plain, tokenizer, BOOK.prompt)
    editor = make_editor(model=model, edits=[BOOK], layers=2)
    called = whole(model)
    for _ in range(2):
        edited = logits(called, tokenizer, BOOK.prompt)
        assert editor.last_routes[0].edit == BOOK.id and not torch.equal(edited, base)
        assert torch.equal(logits(plain, tokenizer, BOOK.prompt), base)
    editor.unload()


def test_an_editor_on_the_compiled_wrapper_edits_the_model_inside(make_editor, make_model):
    model = make_model(**SMALL)
    editor = make_editor(model=whole(model), edits=EDITS[:1], layers=2)
    assert editor.model is model
    assert editor.ask(BOOK.prompt, max_new_tokens=8)[0].text == BOOK.target
    assert editor.unload() is model
