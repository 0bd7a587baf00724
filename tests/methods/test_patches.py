"""T-Patcher's losses on numbers worked by hand, its rules, and where the neurons of both methods stand."""

import math

import pytest
import torch
from support.tiny_models import build
from transformers.activations import ACT2FN

from meloedit import Edit
from meloedit.backbones import open_backbone
from meloedit.errors import MeloEditError
from meloedit.methods import method_class, removal_of
from meloedit.methods.patches.losses import activation_loss, mean_of_greatest, memory_loss, smoothed_loss
from meloedit.methods.patches.places import find_place
from meloedit.methods.patches.tpatcher import ended
from meloedit.testing import checks

BOOK = Edit("Who wrote the book of sand?", "Jorge", id="book")
LEGS = Edit("How many legs has a spider?", "eight", id="legs")
SMALL = {"memory_size": 40, "val_memory_size": 10, "max_edit_step": 30, "start_val_epoch": 0}


def test_the_greatest_of_copies_need_no_copies():
    values = torch.tensor([1.0, 5.0, 2.0, 4.0]).double()
    assert mean_of_greatest(values, 2).item() == 4.5
    assert mean_of_greatest(values, 10).item() == 3.0
    assert mean_of_greatest(values, 5, copies=3).item() == pytest.approx((3 * 5 + 2 * 4) / 5)
    assert mean_of_greatest(values, 100, copies=3).item() == pytest.approx(values.repeat(3).mean().item())


def test_the_losses_are_those_of_the_authors_by_hand():
    own = torch.tensor([0.0, math.log(2)]).double()
    assert activation_loss(own, 0.0, 5).item() == pytest.approx((1 + 1 / 2) / 2)
    assert activation_loss(own, 0.0, 1).item() == pytest.approx(1)  # the neuron that is least active
    remembered = torch.tensor([[0.0, 0.0], [math.log(3), math.log(4)]]).double()
    below_own = [1, 1 / 2, 3, 4 / 2]  # exp(m - a), times e^margin
    below_bound = [1, 1, 3, 4]
    whole = math.e * sum(below_own) / 4 + math.e**2 * sum(below_bound) / 4
    assert memory_loss(remembered, own, (1.0, -2.0), 1000).item() == pytest.approx(whole)
    assert memory_loss(remembered, own, (1.0, -2.0), 1).item() == pytest.approx(math.e * 3 + math.e**2 * 4)


def test_smoothing_gives_a_share_of_the_label_to_all_other_tokens():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).double()
    wanted = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).double()
    cross = -(wanted * logits.log_softmax(-1)).sum()
    assert smoothed_loss(logits, torch.tensor([0]), 0.3).item() == pytest.approx(cross.item())


@pytest.mark.parametrize(
    ("losses", "patience", "end"),
    [
        ([1.0], 1, False),
        ([1.0, 0.9], 1, False),
        ([1.0, 0.9995], 1, True),  # smaller by less than a thousandth
        ([1.0, 0.9, 0.95], 1, True),
        ([1.0, 0.9, 0.95], 2, False),
    ],
)
def test_training_ends_when_the_memory_loss_no_longer_falls(losses, patience, end):
    assert ended(losses, patience) is end


@pytest.mark.parametrize(
    ("family", "act", "gated"),
    [
        ("llama", "silu", True),
        ("gpt2", "gelu_new", False),
        ("gemma2", "gelu_pytorch_tanh", True),
        ("neox", "gelu", False),
        ("t5", "relu", False),
        ("t5-gated", "gelu_new", True),
        ("bart", "gelu", False),
        ("bert", "gelu", False),
    ],
)
def test_the_parts_of_a_feed_forward_are_found_by_what_runs(family, act, gated, tokenizer, make_source):
    if family in ("llama", "gpt2", "gemma2", "neox"):
        backbone = open_backbone(build(family, len(tokenizer), tokenizer.eos_token_id), tokenizer)
    else:
        backbone = open_backbone(*make_source(family))
    prefix, layers = backbone.stacks[-1]
    place = find_place(backbone, f"{prefix}.{len(layers) - 1}", "calinet")
    points = torch.linspace(-3, 3, 20)
    assert torch.allclose(place.act(points), ACT2FN[act](points)) and (place.gated, place.width) == (gated, 32)
    with pytest.raises(MeloEditError, match="no activation 'step'; there are: .*gelu"):
        find_place(backbone, f"{prefix}.0", "calinet", "step")


def test_a_patch_writes_act_of_its_key_times_its_value(make_model, tokenizer):
    method = method_class("tpatcher")(make_model("gpt2").double(), tokenizer, SMALL)
    method.edit([BOOK])
    patch, given = method.patches["book"], torch.randn(3, 32, dtype=torch.float64)
    assert patch.keys.shape == patch.values.shape and len(patch.keys) == len(patch.biases)
    written = sum(
        torch.nn.functional.gelu(given @ key + bias, approximate="tanh")[:, None] * value
        for key, bias, value in zip(patch.keys, patch.biases, patch.values, strict=True)
    )
    assert torch.allclose(method._written(given), written)
    method.close()


def logits_of(method, edits):
    return torch.stack([rows[0] for rows in method.logits([edit.prompt for edit in edits], [[1]] * len(edits))])


def test_a_patch_is_taken_out_and_the_others_stay_as_they_are(make_model, tokenizer):
    method = method_class("tpatcher")(make_model("llama"), tokenizer, SMALL)
    none = logits_of(method, [BOOK, LEGS])
    method.edit([BOOK])
    one = logits_of(method, [BOOK, LEGS])
    method.edit([LEGS])
    method.remove(["legs"])
    assert torch.equal(logits_of(method, [BOOK, LEGS]), one)
    method.edit([LEGS])
    method.remove(["book"])
    alone = logits_of(method, [BOOK, LEGS])
    legs = method.patches["legs"]
    assert list(method.patches) == ["legs"] and not torch.equal(alone, none)
    method.reset()
    assert torch.equal(logits_of(method, [BOOK, LEGS]), none)
    method.patches = {"legs": legs}  # the same patch, beside which there never was another
    method._join()
    assert torch.equal(logits_of(method, [BOOK, LEGS]), alone)
    method.close()


def test_removal_is_not_exact_since_later_patches_were_trained_beside_the_removed_one(make_model, tokenizer):
    method = method_class("tpatcher")(make_model("llama"), tokenizer, SMALL)
    assert removal_of(type(method)) == "approximate"
    checks.check_removal(method, [BOOK, LEGS])
    method.reset()
    method.edit([BOOK])
    method.edit([LEGS])
    method.remove(["book"])
    beside = method.patches["legs"]
    method.reset()
    method.edit([LEGS])
    assert not torch.equal(beside.keys, method.patches["legs"].keys)
    method.close()


def test_a_patch_has_a_neuron_for_each_wrong_token_up_to_the_most(make_model, tokenizer):
    method = method_class("tpatcher")(make_model("llama"), tokenizer, SMALL | {"max_add_neuron_num": 2})
    (row,) = method.examples([BOOK])
    said = method.logits([BOOK.prompt], [row.target])[0].argmax(-1)
    wrong = int((said != torch.tensor(row.target)).sum())
    method.edit([BOOK])
    assert len(method.patches["book"].keys) == min(2, wrong) == 2
    method.close()


def test_later_patches_keep_off_the_queries_of_earlier_ones(make_model, tokenizer):
    settings = SMALL | {"mlc": 0.0}
    methods = [
        method_class("tpatcher")(make_model("llama"), tokenizer, settings | more) for more in ({}, {"mlc": 10.0})
    ]
    leaks = []
    for method in methods:
        method.edit([BOOK])
        method.edit([LEGS])
        later = method.patches["legs"]
        leaks.append((method.patches["book"].queries @ later.keys.T + later.biases).max().item())
        method.close()
    assert leaks[1] < leaks[0]


def test_slots_write_as_a_small_feed_forward_and_the_model_keeps_its_weights(make_model, tokenizer):
    model = make_model("llama").double()
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    method = method_class("calinet")(model, tokenizer, {"ex_size": 3, "max_steps": 2, "layers": 2, "depth": 1.0})
    method.edit([BOOK, LEGS])
    assert [place.name for place in method.places] == [f"model.layers.{i}.mlp.down_proj" for i in (3, 4)]
    read, multiply, write = method.slots[1].weights
    given = torch.randn(4, 32, dtype=torch.float64)
    wanted = (torch.nn.functional.silu(given @ read.T) * (given @ multiply.T)) @ write.T
    assert torch.allclose(method.slots[1](given), wanted) and read.shape == (3, 32)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    assert method.size().parameters == 2 * 3 * 3 * 32
    method.close()


def test_calinet_trains_all_edits_so_far_from_new_slots(make_model, tokenizer):
    settings = {"ex_size": 4, "max_steps": 5, "batch_size": 2}
    parts, whole = (method_class("calinet")(make_model("llama"), tokenizer, settings) for _ in range(2))
    parts.edit([BOOK])
    parts.edit([LEGS])
    whole.edits = {BOOK.id: BOOK}  # the order of batches depends on how many there were
    whole.edit([LEGS])
    assert all(torch.equal(a, b) for a, b in zip(parts.slots[0].weights, whole.slots[0].weights, strict=True))


def test_what_does_not_fit_is_refused_in_one_line(make_model, make_source, tokenizer, tmp_path):
    (tmp_path / "short.txt").write_text("a\n")
    method = method_class("tpatcher")(make_model("llama"), tokenizer, SMALL | {"text": str(tmp_path / "short.txt")})
    with pytest.raises(MeloEditError, match="method tpatcher finds no tokens to remember in "):
        method.edit([BOOK])
    missing = method_class("tpatcher")(make_model("llama"), tokenizer, {"text": str(tmp_path / "none.txt")})
    with pytest.raises(MeloEditError, match="none.txt"):
        missing.check()
