"""Hooks come and go, and the model is as it was."""

import pytest
import torch
from support.causal_checks import ids_of
from support.model_calls import generate
from support.prompts import EDITS, target_ids

from meloedit import Editor
from meloedit.errors import ModelError


def test_detach_gives_the_model_back(make_editor, make_model):
    for family in ("llama", "gpt2"):
        model = make_model(family)
        model.train()
        model.lm_head.weight.requires_grad_(False)
        before = _portrait(model)
        ids = torch.tensor([[40, 41, 42]])
        torch.manual_seed(1)
        expected = model.generate(ids, max_new_tokens=5, do_sample=False)
        editor = make_editor(model=model, edits=EDITS[:1])
        assert _portrait(model)[1:] == before[1:]
        assert editor.unload() is model
        editor.unload()  # once more does no harm
        after = _portrait(model)
        assert after[1:] == before[1:] and after[0] == before[0]
        torch.manual_seed(1)
        assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), expected)


def _portrait(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    modules = dict(model.named_modules()).items()
    return (
        [(name, sorted(vars(module)), [len(getattr(module, hook)) for hook in hooks]) for name, module in modules],
        {name: weight.clone().view(torch.int32).sum().item() for name, weight in model.state_dict().items()},
        {name: weight.requires_grad for name, weight in model.named_parameters()},
        [module.training for module in model.modules()],
    )


def test_a_model_takes_one_editor_at_a_time(llama, tmp_path):
    with pytest.raises(ModelError, match="has an editor: use it or unload it"):
        Editor(llama.model, llama.tokenizer, store=tmp_path / "second.melo")
    assert not (tmp_path / "second.melo").exists()


def test_another_wrapper_of_generate_is_kept(make_editor, make_model):
    model = make_model()
    own, calls = model.generate, []
    model.generate = lambda *args, **kwargs: calls.append(args) or own(*args, **kwargs)
    wrapper = model.generate
    editor = make_editor(model=model, edits=EDITS[:1])
    assert generate(editor, [ids_of(editor, EDITS[0])]) == [target_ids(editor, "book", [])]
    editor.unload()
    assert calls and vars(model)["generate"] is wrapper


def test_saving_the_model_saves_the_base_model(llama, make_model, tmp_path):
    base = make_model()
    assert llama.model.state_dict().keys() == base.state_dict().keys()
    llama.model.save_pretrained(tmp_path)
    again = type(base).from_pretrained(tmp_path)
    for name, weight in base.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_a_module_that_sees_its_columns_as_rows_is_refused(make_model, tokenizer):
    model = make_model()
    mlp = model.model.layers[-1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x.transpose(0, 1)).transpose(0, 1)
    with pytest.raises(ModelError, match="down_proj.*row by row"):
        Editor(model, tokenizer)
