"""The bank's deltas against W x + B A x by hand, and against PEFT."""

import peft
import pytest
import torch
from support.prompts import EDITS
from torch import nn
from transformers.pytorch_utils import Conv1D

from meloedit.hooks.bank import BlockBank
from meloedit.hooks.blocks import Factors, Site, block_from_tensors, block_to_tensors

IN, OUT, COLUMNS = 6, 10, 7


def make_bank(dtype=torch.float32, names=("m",)):
    return BlockBank([Site(name, IN, OUT, dtype, torch.device("cpu")) for name in names])


def make_block(rank, seed, names=("m",), positions=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).half()

    return {name: Factors(draw(rank, IN), draw(OUT, rank), draw(rank, positions)) for name in names}


def apply(bank, owners, last, x, y, past=0, name="m"):
    y = y.clone()
    with torch.no_grad():
        for group in bank.gather(owners, last):
            y = group.apply(name, x, y, past)
    return y


def by_hand(blocks, starts, x, y, past=0, answers=None):
    """Token by token in float64: B (A x + P e_position)."""
    y = y.double().clone()
    for row, (block, start) in enumerate(zip(blocks, starts, strict=True)):
        for column in range(x.shape[1]):
            if block is not None and past + column >= start:
                a, b, p = (factor.double() for factor in block["m"])
                low = a @ x[row, column].double()
                position = past + column - (answers or starts)[row]
                if p.shape[1] and position >= 0:
                    low = low + p[:, min(position, p.shape[1] - 1)]
                y[row, column] += b @ low
    return y


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, COLUMNS, IN, generator=generator), torch.randn(5, COLUMNS, OUT, generator=generator)


def test_deltas_are_those_by_hand(states):
    x, y = states
    bank, blocks = make_bank(), {owner: make_block(rank, owner) for owner, rank in [(3, 2), (4, 2), (7, 1), (9, 4)]}
    for owner, block in blocks.items():
        bank.add(owner, block, "all" if owner == 4 else "answer")
    owners, last = [7, -1, 4, 3, 9], [2, 0, 5, 6, 0]
    used, starts = [blocks.get(owner) for owner in owners], [2, 0, 0, 6, 0]
    for past in (0, 4, 20):
        for grad in (True, False):
            found = y.clone()
            with torch.set_grad_enabled(grad):
                for group in bank.gather(owners, last):
                    found = group.apply("m", x, found, past)
            assert torch.allclose(found.double(), by_hand(used, starts, x, y, past), atol=1e-6)
            assert torch.equal(found[1], y[1])
            if past == 0:
                assert torch.equal(found[0, :2], y[0, :2]) and torch.equal(found[3, :6], y[3, :6])
                assert not torch.equal(found[3, 6], y[3, 6])


def test_a_block_does_not_depend_on_its_batch(states):
    x, y = states
    bank = make_bank()
    for owner in range(5):
        bank.add(owner, make_block(2, owner), "answer")
    whole = apply(bank, [0, 1, -1, 3, 4], [0, 3, 6, 2, 5], x, y)
    for row, owner in enumerate([0, 1, -1, 3, 4]):
        alone = apply(bank, [owner], [[0, 3, 6, 2, 5][row]], x[row : row + 1], y[row : row + 1])
        assert torch.allclose(alone[0], whole[row], atol=1e-6)


def test_autograd_keeps_the_modules_own_output(states):
    x, y = states
    bank = make_bank()
    bank.add(0, make_block(2, 0), "all")
    (group,) = bank.gather([0] * 5, [0] * 5)
    before = y.clone()
    group.apply("m", x.requires_grad_(), y, 0).sum().backward()
    assert torch.equal(y, before) and x.grad.abs().sum() > 0


def test_a_block_reads_positions_of_the_answer_beside_blocks_that_do_not(states):
    x, y = states
    bank, blocks = (
        make_bank(),
        {owner: make_block(2, owner, positions=positions) for owner, positions in [(1, 3), (2, 0), (3, 3)]},
    )
    for owner, block in blocks.items():
        bank.add(owner, block, "all" if owner == 3 else "answer")
    owners, answers = [1, 2, 3, -1, 1], [1, 2, 3, 0, 5]
    used, starts = [blocks.get(owner) for owner in owners], [1, 2, 0, 0, 5]
    for past in (0, 3, 30):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                got = y.clone()
                for group in bank.gather(owners, answers):
                    got = group.apply("m", x, got, past)
            assert torch.allclose(got.double(), by_hand(used, starts, x, y, past, answers), atol=1e-4)
            assert torch.equal(got[3], y[3])
    beams = [group.repeated(2) for group in bank.gather(owners, answers)]
    folded = y.repeat_interleave(2, 0)
    with torch.no_grad():
        for group in beams:
            folded = group.apply("m", x.repeat_interleave(2, 0), folded, 30)
    assert torch.equal(folded[::2], got) and torch.equal(folded[1::2], got)


def test_rows_grow_are_reused_and_replaced(states):
    x, y = states
    bank, blocks = make_bank(), {owner: make_block(2, owner) for owner in range(40)}
    for owner, block in blocks.items():
        bank.add(owner, block, "all")
    assert len(bank) == 40
    capacity = len(bank._slabs[2, 0].tables["m"][0])
    bank.remove([0, 1, 2, 39, 99])
    assert len(bank) == 36
    for owner in (50, 51, 52, 53):
        blocks[owner] = make_block(2, owner)
        bank.add(owner, blocks[owner], "all")
    blocks[20] = make_block(8, 1000)
    bank.add(20, blocks[20], "all")  # replaced, by another rank
    bank.add(21, blocks[21], "answer")  # replaced, by another reach
    assert len(bank) == 40 and len(bank._slabs[2, 0].tables["m"][0]) == capacity
    owners = [50, 20, 3, 38, 53]
    assert torch.allclose(
        apply(bank, owners, [6] * 5, x, y).double(),
        by_hand([blocks[owner] for owner in owners], [0] * 5, x, y),
        atol=1e-5,
    )
    assert torch.equal(apply(bank, [21] * 5, [99] * 5, x, y), y)
    assert bank.reaches_all()
    bank.remove([owner for owner in blocks if owner != 21])
    assert not bank.reaches_all() and len(bank) == 1


def test_a_table_that_is_told_how_many_come_is_made_once():
    bank = make_bank()
    for start in range(0, 50, 10):
        blocks = [make_block(2, number) for number in range(start, start + 10)]
        stacked = {"m": Factors(*map(torch.stack, zip(*(block["m"] for block in blocks), strict=True)))}
        bank.add_all(range(start, start + 10), stacked, ["answer"] * 10, room=50 - start)
        assert len(bank._slabs[2, 0].tables["m"][0]) == 50
    (group,) = bank.gather([0, 17, 49], [0, 0, 0])
    for i, number in enumerate((0, 17, 49)):
        assert all(
            torch.equal(a[i].half(), b) for a, b in zip(group.factors["m"], make_block(2, number)["m"], strict=True)
        )
    bank.add(50, make_block(2, 50), "answer")
    assert len(bank._slabs[2, 0].tables["m"][0]) == 100


@pytest.mark.parametrize("stack", [(), (4,)])
def test_a_block_as_tensors_and_back(stack):
    positions = {"m": 3, "n": 0}
    block = {
        name: Factors(torch.randn(*stack, 2, IN), torch.randn(*stack, OUT, 2), torch.randn(*stack, 2, count))
        for name, count in positions.items()
    }
    tensors = block_to_tensors(block)
    assert sorted(tensors) == ["m.A", "m.B", "m.P", "n.A", "n.B"]  # without P a block is a plain LoRA
    back = block_from_tensors(tensors, ["m", "n"])
    for name, factors in block.items():
        assert all(torch.equal(one, other) for one, other in zip(factors, back[name], strict=True))


def test_a_replaced_block_gives_its_row_back():
    bank = make_bank()
    for seed in range(50):
        bank.add(0, make_block(2, seed), "all")
    assert len(bank) == 1 and len(bank._slabs[2, 0].tables["m"][0]) == 8


def test_gathered_blocks_outlive_their_removal(states):
    x, y = states
    bank, block = make_bank(), make_block(2, 0)
    bank.add(0, block, "all")
    groups = bank.gather([0] * 5, [0] * 5)
    bank.remove([0])
    bank.add(1, make_block(2, 1), "all")
    with torch.no_grad():
        found = groups[0].apply("m", x, y.clone(), 0)
    assert torch.allclose(found.double(), by_hand([block] * 5, [0] * 5, x, y), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sites(states, dtype):
    x, y = (tensor.to(dtype) for tensor in states)
    bank, block = make_bank(dtype), make_block(2, 0)
    bank.add(0, block, "answer")
    found = apply(bank, [-1, 0, 0, -1, 0], [0, 1, 2, 3, 4], x, y)
    assert found.dtype == dtype
    assert torch.equal(found[[0, 3]], y[[0, 3]])
    expected = by_hand([None, block, block, None, block], [0, 1, 2, 3, 4], x, y)
    scale = expected.abs().max()
    assert (found.double() - expected).abs().max() < scale * (0.03 if dtype == torch.bfloat16 else 0.004)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_an_edited_model_is_a_peft_lora_with_the_same_factors(make_editor, make_model, family):
    editor = make_editor(family, EDITS[:1], reach="all", rank=3, answer_positions=0)
    rank, block = editor.edits()[0].rank, editor.store.tensors()["book"][0]
    ids = torch.tensor([editor.backbone.encode(EDITS[0].prompt).ids])
    with torch.no_grad():
        ours = editor.model(ids).logits
    assert editor.last_routes[0].edit == "book"
    names = list(editor.config.modules)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names, fan_in_fan_out=family == "gpt2")
    wrapped = peft.get_peft_model(make_model(family), config)
    for name in names:
        layer = wrapped.base_model.model.get_submodule(name)
        assert isinstance(layer.base_layer, Conv1D if family == "gpt2" else nn.Linear)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(block[f"{name}.A"])
            layer.lora_B["default"].weight.copy_(block[f"{name}.B"])
    with torch.no_grad():
        theirs = wrapped(ids).logits
        with wrapped.disable_adapter():
            base = wrapped(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4) and not torch.allclose(ours, base, atol=0.1)
    editor.unload()
