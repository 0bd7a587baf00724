"""One edit at a time: methods that then do the same, and passes that leave out what they do not need."""

from contextlib import nullcontext

import pytest
import torch

from meloedit import Edit
from meloedit.methods import method_class
from meloedit.methods.located.rows import Row, Rows
from meloedit.methods.memory import wise

EDIT = Edit("The capital of Peru is", "Lima", id="capital", subject="Peru")


def test_fine_tuning_and_locft_make_the_same_of_one_edit(make_model, tokenizer):
    weights = []
    for name in ("ft", "locft"):
        method = method_class(name)(make_model("llama"), tokenizer, {"lr": 0.01, "passes": 5})
        method.edit([EDIT])
        weights.append(method.weight.detach().clone())
        assert not torch.equal(weights[-1], method._originals["weight"])
        method.close()
    assert torch.equal(*weights)


def test_wise_trains_the_same_copy_if_the_layers_below_run_each_time(make_model, tokenizer, monkeypatch):
    copies = []
    for runs in (wise.run_once, lambda _: nullcontext()):
        monkeypatch.setattr(wise, "run_once", runs)
        method = method_class("wise")(make_model("llama"), tokenizer, {"n_iter": 3, "contexts": 1, "depth": 0.9})
        assert method._number > 0  # there are layers below
        method.edit([EDIT])
        copies.append(method.current.weight)
        assert not torch.equal(copies[-1], method._module.weight)
        method.close()
    assert torch.equal(*copies)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_logits_of_rows_are_those_of_whole_passes(make_model, tokenizer, family):
    method = method_class("rome")(make_model(family).double(), tokenizer, {"depth": 0.5})
    essence = Row.of(method.decoder, "Peru is a", "Peru")
    given = [Row.of(method.decoder, text + EDIT.prompt, "Peru", "Lima") for text in ("", "I know it. ")]
    rows = Rows(method.decoder, [*given, essence])
    with torch.no_grad():
        logits, free = rows.logits()
        for row, own in zip(given, logits, strict=True):
            whole = method.model(input_ids=torch.tensor([row.ids])).logits[0]
            assert torch.allclose(own, whole[-len(row.target) :], atol=1e-9)
        whole = method.model(input_ids=torch.tensor([essence.ids])).logits[0]
        assert torch.allclose(free[0], whole[essence.place], atol=1e-9)
    method.close()
