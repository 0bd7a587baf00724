"""WISE: its loss and its merging on numbers worked by hand, its training by the formula, and which copy answers."""

import pytest
import torch
from torch.nn.functional import cross_entropy, silu

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.methods import method_class
from meloedit.methods.memory.side import Shard, hinges, merge

FACTS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
]
OTHERS = ["Please sing", "Where do the children of the old town play in the summer of the year?", "Is it late?"]


def test_the_loss_parts_scores():
    near, far = torch.tensor([12.0, 30.0]), torch.tensor([7.0])
    # far - near + 10: 5 and -13; far - 5: 2; 20 - near: 8 and -10
    assert hinges(near, far, 5.0, 20.0, 10.0).item() == 5 + 2 + 8
    assert hinges(torch.tensor([25.0]), torch.tensor([3.0]), 5.0, 20.0, 10.0).item() == 0


def test_merging_keeps_the_greatest_changes_whose_signs_agree():
    base = torch.zeros(4)
    shards = [
        Shard(torch.tensor([4.0, -1.0, 3.0, 0.1]), 9.0, ["a"]),
        Shard(torch.tensor([2.0, 0.1, -5.0, -1.0]), 7.0, ["b"]),
    ]
    merged = merge(base, shards, 0.75, 1.0)  # three of each: the 0.1 go
    assert merged.weight.tolist() == [3.0, -1.0, -5.0, -1.0]
    assert (merged.least, merged.edits) == (7.0, ["a", "b"])


@pytest.fixture(scope="module")
def open_wise(make_model, tokenizer):
    return lambda **more: method_class("wise")(
        make_model("llama").double(), tokenizer, {"n_iter": 12, "contexts": 1, "edit_lr": 0.5} | more
    )


def test_one_step_goes_down_the_gradient_where_the_mask_lets_it(open_wise):
    method = open_wise(n_iter=1, norm_constraint=100.0, beta=1e-9)
    original = method._module.weight.detach().clone()
    method.edit(FACTS[:1])
    moved = method.current.weight - original
    rows = method._rows(FACTS[0])
    weight = original.clone().requires_grad_(True)
    method._module.weight = torch.nn.Parameter(original, requires_grad=False)
    handle = method._module.register_forward_hook(lambda _, args, out: args[0] @ weight.T)
    method.reset()
    losses = []
    for row in rows:  # the copy is the original: all scores are 0, and gamma has no gradient there
        logits = method.model(input_ids=torch.tensor([[*row.prompt, *row.target[:-1]]])).logits[0]
        losses.append(cross_entropy(logits[-len(row.target) :], torch.tensor(row.target)))
    handle.remove()
    torch.stack(losses).mean().backward()
    touched = moved != 0
    assert torch.allclose(moved[touched], -0.5 * (weight.grad + 1e-5 * original)[touched], atol=1e-5)
    assert 0.15 < touched.double().mean() < 0.25
    method.close()


def test_each_row_decides_by_its_own_prompt_and_keeps_to_it(open_wise):
    method = open_wise(alpha=0.5, beta=2.0, gamma=1.0, n_iter=15)
    before = method.logits(OTHERS, [[1, 1]] * 3)
    for edit in FACTS:
        method.edit([edit])
    prompts = [*(edit.prompt for edit in FACTS), *OTHERS]
    together, alone = method.answer(prompts), [method.answer([prompt])[0] for prompt in prompts]
    assert [(a.text, a.route.edit) for a in together] == [(a.text, a.route.edit) for a in alone]
    routes = method.route(prompts)
    assert [route.edit for route in routes] == [a.route.edit for a in together]
    assert any(route.edit == "book" for route in routes[:3])  # the first edit names the copy
    for row, unedited, route in zip(method.logits(OTHERS, [[1, 1]] * 3), before, routes[3:], strict=True):
        assert (row == unedited).all() == (route.edit is None)
    weight, (given, output) = method.current.weight, (torch.randn(1, 2, 48).double(), torch.randn(1, 2, 32).double())
    wanted = (silu(output) - silu(given @ weight.T)).norm(dim=-1)
    assert torch.allclose(method._distance(output, method._written(weight, given)), wanted.float())
    method.close()


def test_copies_are_kept_and_merged(open_wise):
    method = open_wise(save_freq=1, merge_freq=2, n_iter=3)
    for edit, copies in zip(FACTS, ([["book"]], [["book", "capital"]], [["book", "capital"], ["legs"]]), strict=True):
        method.edit([edit])
        assert [shard.edits for shard in method.memory] == copies and method.current.edits == []
    assert method.blocks() == {"book": "book", "capital": "book", "legs": "legs"}
    method.close()


def test_a_merge_must_come_after_whole_copies():
    with pytest.raises(MeloEditError, match=r"method wise: merge_freq must be a multiple of save_freq \(3\), not 4"):
        method_class("wise").read_settings({"save_freq": 3, "merge_freq": 4})
