"""A model that was compiled, in whatever way, before the editor came: routed as the plain model is."""

import pytest
import torch
from support.prompts import BOOK, SETTINGS
from torch import nn

from meloedit import Editor, MeloConfig
from meloedit.backbones.contexts import Attachment
from meloedit.errors import ModelError

SMALL = {"num_hidden_layers": 2}


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


def logits(model, ids, **kwargs):
    with torch.no_grad():
        return model(input_ids=ids, **kwargs).logits


@pytest.fixture
def ids(tokenizer):
    """The prompt of BOOK, and the same tokens in reverse, which ask nothing."""
    prompt = tokenizer(BOOK.prompt, return_tensors="pt")["input_ids"]
    return prompt, prompt.flip(1)


@pytest.fixture(autouse=True)
def _compiled_code_is_dropped():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("patched", [False, True], ids=["as it is", "with a forward of another library"])
def test_code_of_a_part_that_ran_without_a_hook_is_made_again(patched):
    """The heart of it, which costs little; the tests that compile a model are slow ones."""
    parts, others = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(2))
    if patched:
        own = parts[1].forward
        parts[1].forward = lambda x: own(x)
    called, x, seen = whole(parts), torch.ones(2, 4), []
    with torch.no_grad():
        before = called(x)
        attachment = Attachment()
        attachment.hook(parts[1], after=lambda module, args, output: seen.append(module) or output + 1)
        for _ in range(2):
            assert torch.equal(called(x), before + 1)
            whole(others)(x)
        attachment.remove()
        assert torch.equal(called(x), before) and len(seen) == 2
    assert ("forward" in vars(parts[1])) is patched and "forward" not in vars(parts[0])


@pytest.mark.slow
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("compiled", [whole, in_place, forward, layers])
def test_a_model_compiled_before_the_editor_came(compiled, use_cache, ids, make_editor, make_model):
    """It ran without hooks. Torch does not guard on their absence, so that its code would go on without them."""
    model = make_model(**SMALL)
    called = compiled(model)
    before = [logits(called, one, use_cache=use_cache) for one in ids]
    editor = make_editor(model=model, edits=[BOOK], layers=1)
    edited, other = (logits(called, one, use_cache=use_cache) for one in ids)
    assert editor.last_routes[0].edit is None
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(edited, logits(model, ids[0], use_cache=use_cache))
        assert editor.last_routes[0].edit == BOOK.id
    assert not torch.equal(edited, before[0]) and torch.equal(other, before[1])
    editor.unload()
    assert torch.equal(logits(called, ids[0], use_cache=use_cache), before[0])


@pytest.mark.slow
def test_code_compiled_for_another_model_of_the_class_is_not_taken(ids, make_editor, make_model):
    """Torch keeps code by class: an unedited model that is called in between says nothing about the edited one."""
    plain, model = whole(make_model(**SMALL)), make_model(**SMALL)
    base = logits(plain, ids[0])
    editor = make_editor(model=model, edits=[BOOK], layers=1)
    called = whole(model)
    for _ in range(2):
        edited = logits(called, ids[0])
        assert editor.last_routes[0].edit == BOOK.id and not torch.equal(edited, base)
        assert torch.equal(logits(plain, ids[0]), base)
    editor.unload()


@pytest.mark.slow
def test_generate_on_a_compiled_forward_with_a_static_cache(make_editor, make_model):
    """The way that the documentation of transformers shows."""
    model = forward(make_model(**SMALL))
    prompt = torch.tensor([[40, 41, 42]])
    model.generate(prompt, max_new_tokens=2, cache_implementation="static", pad_token_id=1)
    editor = make_editor(model=model, edits=[BOOK], layers=1)
    (answer,) = editor.ask(BOOK.prompt, max_new_tokens=8, cache_implementation="static")
    assert (answer.text, answer.route.edit) == (BOOK.target, BOOK.id)
    editor.unload()


def test_an_editor_on_the_compiled_wrapper_edits_the_model_inside(make_model, tokenizer):
    model = make_model(**SMALL)
    editor = Editor(whole(model), tokenizer, MeloConfig(**SETTINGS, layers=1))
    assert editor.edit(BOOK)[0].holds
    assert editor.model is model and editor.ask(BOOK.prompt, max_new_tokens=8)[0].text == BOOK.target
    assert editor.unload() is model


def test_a_part_that_is_wrapped_is_refused(make_editor, make_model):
    """Its name has changed, and a store with such names would fit no plain model."""
    model = make_model(**SMALL)
    model.model = whole(model.model)
    with pytest.raises(ModelError, match=r"model is wrapped by torch.compile: call model.compile\(\) instead"):
        make_editor(model=model)
