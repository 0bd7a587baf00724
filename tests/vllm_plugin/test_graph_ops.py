"""The ops of a model whose passes are compiled: what they compute, for the compiler and beside the eager path."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meloedit.errors import ModelError
from meloedit.hooks.bank import BlockBank
from meloedit.hooks.blocks import Factors, Site
from meloedit.vllm.eager.deltas import Deltas
from meloedit.vllm.edits.passes import Pass
from meloedit.vllm.graphs import ops
from meloedit.vllm.graphs.shards import Answer, Shard
from meloedit.vllm.graphs.wide import WideBlocks

IN, OUT, RANK, PLACES, TOKENS = 6, 5, 4, 3, 24


def blocks(count, seed=0):
    """Blocks of several shapes, as a bank gathers them: owner i has rank 2 or 4, and 0, 2 or 3 places."""
    torch.manual_seed(seed)
    bank = BlockBank([Site("m", IN, OUT, torch.float32, torch.device("cpu"))])
    for owner in range(count):
        rank, places = (2, 4)[owner % 2], (3, 0, 2)[owner % 3]
        factors = Factors(torch.randn(rank, IN), torch.randn(OUT, rank), torch.randn(rank, places))
        bank.add(owner, {"m": Factors(*(one.half() for one in factors))}, "answer")
    return bank


def answer_of(block):
    factors = {name: Factors(*(each[0] for each in f)) for name, f in block.factors.items()}
    return Answer(block.starts[0], block.answers[0], factors)


def wide(requests=6):
    whole = {"m": Shard(slice(0, IN), slice(0, OUT), True)}
    return WideBlocks(whole, TOKENS, requests, RANK, PLACES, 4, torch.float32, torch.device("cpu"))


def a_pass(names, past, counts, prompts):
    return Pass(names, np.cumsum([0, *counts]), np.array(past), np.array(prompts))


def mixed():
    """A prompt that ends, one under way, two answers, one that is computed again, the base model's; their blocks."""
    one = a_pass(list("abcdef"), [0, 0, 9, 7, 2, 4], [5, 3, 1, 1, 6, 1], [5, 8, 6, 6, 4, 3])
    bank, owners = blocks(3), [0, 1, 1, 2, 0, None]
    found = {
        place: bank.gather([owner], [int(one.prompts[place]) - 1])[0]
        for place, owner in enumerate(owners)
        if owner is not None
    }
    return one, found


def seated(one, found):
    tables = wide()
    for place, block in found.items():
        tables.seat(one.names[place], answer_of(block), one.names)
    tables.write(one, tables.rows, tables.places)
    return tables


def added(tables, x, y):
    return torch.ops.meloedit.add_blocks(x, y, tables.rows, tables.places, tables.owners, *tables.tables["m"])


def test_rows_get_what_the_eager_path_adds_and_others_not_a_bit():
    one, found = mixed()
    tables = seated(one, found)
    x, base = torch.randn(TOKENS, IN), torch.randn(TOKENS, OUT)
    base[7] = base[-1] = -0.0
    want = base.clone()
    for group in Deltas(torch.device("cpu")).of(one, list(found.items())):
        group.add("m", x, want)
    y = added(tables, x, base)  # with TOKENS - 17 rows of padding
    assert torch.allclose(y, want, atol=1e-5) and not torch.equal(y, base)
    touched = [4, 8, 9, *range(11, 16)]
    assert tables.tables["m"].acted.tolist() == [len(touched)]
    assert torch.equal(torch.nonzero(tables.rows).flatten(), torch.tensor(touched))
    rest = [row for row in range(TOKENS) if row not in touched]
    assert torch.equal(y[rest].view(torch.int32), base[rest].view(torch.int32))  # the sign of zero, too


def test_a_row_that_is_no_number_stays_alone():
    one, found = mixed()
    tables = seated(one, found)
    x = torch.randn(TOKENS, IN)
    x[4] = torch.inf
    y = added(tables, x, torch.zeros(TOKENS, OUT))
    assert not y[4].isfinite().any() and y[torch.arange(TOKENS) != 4].isfinite().all()


def test_seats_are_given_up_for_those_that_run_and_blocks_that_do_not_fit_are_refused():
    tables, bank = wide(requests=2), blocks(4)
    each = [answer_of(bank.gather([owner], [0])[0]) for owner in range(4)]
    tables.seat("a", each[1], ["a"])
    tables.seat("b", each[3], ["b"])
    tables.seat("c", each[1], ["b", "c"])  # both are full: a does not run
    assert "a" not in tables and "b" in tables and "c" in tables
    with pytest.raises(ModelError, match="max-num-seqs"):
        tables.seat("d", each[0], ["b", "c", "d"])
    large = Answer(0, 0, {"m": Factors(torch.zeros(5, IN), torch.zeros(OUT, 5), torch.zeros(5, 0))})
    with pytest.raises(ModelError, match="start it anew"):
        tables.seat("e", large, ["e"])
    tables.free({"b", "c", "nobody"})
    assert (tables.owners == -1).all()


def test_a_pass_without_blocks_clears_what_the_last_one_wrote():
    one, found = mixed()
    tables = seated(one, found)
    assert tables.rows.any()
    quiet = a_pass(["z"], [0], [9], [20])
    tables.write(quiet, tables.rows, tables.places)
    assert not tables.rows.any() and tables.rows_of(a_pass(["a"], [0], [4], [5])) is None  # its prompt still runs


@contextmanager
def forward_context(monkeypatch, decider, name="seat"):
    """A forward context, as vLLM has one while the model runs."""
    context = SimpleNamespace(
        is_forward_context_available=lambda: True,
        get_forward_context=lambda: SimpleNamespace(no_compile_layers={name: decider}),
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "vllm.forward_context", context)
        yield


class Decides:
    """Writes slot 1 into the row of the last token."""

    def __init__(self):
        self.seen = []

    def decide(self, states, rows, places):
        self.seen.append(states.clone())
        rows[len(states) - 1] = 1
        places[len(states) - 1] = 2


def take_arguments(residual=True):
    return (
        torch.randn(7, 4), torch.randn(7, 4) if residual else None, torch.zeros(TOKENS, 4),
        torch.zeros(TOKENS, dtype=torch.int32), torch.zeros(TOKENS, dtype=torch.int32), "seat",
    )  # fmt: skip


@pytest.mark.parametrize("residual", [True, False])
def test_states_are_taken_out_and_the_decider_sees_them(monkeypatch, residual):
    hidden, rest, states, rows, places, _ = arguments = take_arguments(residual)
    torch.ops.meloedit.take_states(*arguments)  # no forward context: nobody decides
    want = hidden + rest if residual else hidden
    assert torch.equal(states[:7], want) and not states[7:].any() and not rows.any()
    decider = Decides()
    with forward_context(monkeypatch, decider):
        torch.ops.meloedit.take_states(*arguments)
    assert torch.equal(decider.seen[0], want) and rows.tolist()[6] == 1 and places.tolist()[6] == 2


def test_the_ops_keep_the_compilers_rules():
    one, found = mixed()
    tables = seated(one, found)
    add = (torch.randn(9, IN), torch.randn(9, OUT), tables.rows, tables.places, tables.owners, *tables.tables["m"])
    for op, arguments in (
        (torch.ops.meloedit.take_states.default, take_arguments()),
        (torch.ops.meloedit.take_states.default, take_arguments(False)),
        (torch.ops.meloedit.add_blocks.default, add),
    ):
        assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}
    assert ops.TAKE == "meloedit::take_states" and "states" in str(torch.ops.meloedit.take_states.default._schema)


class Layers(torch.nn.Module):
    """A key layer and an edited module above it, as ``models.prepare`` leaves them."""

    def __init__(self, tables):
        super().__init__()
        torch.manual_seed(1)
        self.below, self.inner = torch.nn.Linear(4, 4), torch.nn.Linear(4, IN)
        self.above = torch.nn.Linear(IN, OUT)
        self.tables = tables

    def forward(self, hidden, residual):
        hidden = self.below(hidden)
        t = self.tables
        torch.ops.meloedit.take_states(hidden, residual, t.states, t.rows, t.places, "seat")
        x = torch.tanh(self.inner(hidden + residual))
        y = self.above(x)
        return torch.ops.meloedit.add_blocks(x, y, t.rows, t.places, t.owners, *t.tables["m"]) * 2


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_compiled_pass_is_the_eager_one_whole_and_without_another_graph(monkeypatch, backend):
    one, found = mixed()
    tables = seated(one, found)
    tables.rows.zero_()
    model, decider = Layers(tables), Decides()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=backend)
    with forward_context(monkeypatch, decider):
        for round_ in range(3):
            hidden, residual = torch.randn(7, 4), torch.randn(7, 4)
            tables.rows.zero_()
            want = model(hidden, residual)
            tables.rows.zero_()
            got = compiled(hidden, residual)
            assert torch.allclose(got, want, atol=1e-5), round_
            assert tables.rows.nonzero().flatten().tolist() == [6]  # the decision of this very pass
            tables.rows.zero_()
            base = 2 * model.above(torch.tanh(model.inner(model.below(hidden) + residual)))
            assert torch.allclose(got[:6], base[:6], atol=1e-5) and not torch.allclose(got[6], base[6], atol=1e-3)
    assert len(decider.seen) == 6 and torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
