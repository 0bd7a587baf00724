"""UltraEdit's normaliser on numbers worked by hand, its step by the formula; LocFT-BF's refit."""

import pytest
import torch

from meloedit import Edit
from meloedit.methods import method_class
from meloedit.methods.weights.normalizer import Normalizer

FACTS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
]


def test_the_normaliser_adds_parts_as_the_authors_do():
    one = Normalizer.empty(1, torch.zeros(0, dtype=torch.float64))
    one.update(torch.tensor([[1.0], [3.0]]).double())  # variance over n - 1: 2, which counts twice
    assert (one.count, one.mean.item(), one.spread.item()) == (2, 2.0, 4.0)
    one.update(torch.tensor([[5.0]]).double())  # alone: no variance of its own
    assert (one.count, one.mean.item(), one.spread.item()) == (3, 3.0, pytest.approx(4 + 2 * 1 * 9 / 3))
    assert one(torch.tensor([[8.0]]).double()).item() == pytest.approx(5 / 5**0.5)


def test_a_step_is_a_ridge_regression_of_normalised_gradients(make_model, tokenizer):
    method = method_class("ultraedit")(make_model("gpt2").double(), tokenizer, {"layers": 1, "lr": 0.01})
    (name,) = method.modules
    before, module = method._weights[name].detach().clone(), method.model.get_submodule(name)
    kept = []
    handle = module.register_forward_hook(lambda _, args, out: kept.append((args[0], out)))
    module.weight.requires_grad_(True)
    examples = method.examples(FACTS)
    logits = method.backbone.target_logits(examples)
    targets = torch.tensor([token for one in examples for token in one.target])
    torch.nn.functional.cross_entropy(torch.cat(logits), targets).backward(inputs=[kept_out := kept[0][1]])
    handle.remove()
    module.weight.requires_grad_(False)
    spans = [(i, len(one.prompt) - 1, len(one.prompt) - 1 + len(one.target)) for i, one in enumerate(examples)]
    given = torch.cat([kept[0][0][i, start:stop] for i, start, stop in spans]).detach()
    gradients = torch.cat([kept_out.grad[i, start:stop] for i, start, stop in spans])
    both = torch.cat([given, gradients], 1)
    normal = (both - both.mean(0)) / (both.std(0) * (len(both) / (len(both) - 1)) ** 0.5)  # the authors' spread
    wanted = -0.01 * normal[:, :128].square().sum(1, keepdim=True) * normal[:, 128:]
    change = torch.linalg.solve(given.T @ given + torch.eye(128).double(), given.T @ wanted)
    method.edit(FACTS)
    assert torch.allclose(method._weights[name] - before, change, rtol=1e-6, atol=1e-12)


def test_locft_trains_all_edits_so_far_from_the_start(make_model, tokenizer):
    settings = {"passes": 6, "lr": 0.01, "batch_size": 2}
    methods = [
        method_class("locft")(make_model("llama"), tokenizer, settings | more) for more in ({}, {}, {"refit": False})
    ]
    for method in methods:
        method.edit(FACTS[:1])
        method.edit(FACTS[1:])
    whole = method_class("locft")(make_model("llama"), tokenizer, settings)
    whole.edits = {FACTS[0].id: FACTS[0]}  # the shuffles depend on how many there were
    whole.edit(FACTS[1:])
    assert torch.equal(methods[0].weight, whole.weight) and torch.equal(methods[0].weight, methods[1].weight)
    assert not torch.equal(methods[2].weight, whole.weight)
