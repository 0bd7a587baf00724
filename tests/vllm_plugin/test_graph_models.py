"""The class with ops of any architecture, and what its passes do, on a model that is built as vLLM's are."""

import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from parts import live_of, runner_of, states_of
from support.prompts import BOOK, mixed_prompts
from toy_model import Base, UnquantizedMethod, vllm_config

from meloedit.errors import ModelError, StoreError
from meloedit.hooks.blocks import Factors
from meloedit.store import Store
from meloedit.vllm.edits.follower import Follower
from meloedit.vllm.edits.host import settings_of
from meloedit.vllm.graphs import ops
from meloedit.vllm.graphs.attach import GraphHooks
from meloedit.vllm.graphs.models import edited
from meloedit.vllm.graphs.seat import SEAT
from meloedit.vllm.graphs.served import GraphServed
from meloedit.vllm.graphs.shards import Answer
from meloedit.vllm.graphs.state import state_class
from meloedit.vllm.runners.v1 import RunnerView
from meloedit.vllm.runners.v2 import StateView


@pytest.fixture(scope="module")
def hf(llama):
    return llama.model.config


@pytest.fixture
def config(hf, store_path):
    return vllm_config(hf, store_path)


@pytest.fixture
def model(config):
    return edited(Base)(vllm_config=config).requires_grad_(False)


@pytest.fixture
def context(monkeypatch, config):
    """The forward context that vLLM has while a model runs."""
    made = SimpleNamespace(
        is_forward_context_available=lambda: True,
        get_forward_context=lambda: SimpleNamespace(no_compile_layers=config.compilation_config.static_forward_context),
    )
    monkeypatch.setitem(sys.modules, "vllm.forward_context", made)


def probed(model, forward):
    """Hooks on a runner whose dummy passes run a function."""
    runner = SimpleNamespace(
        _dummy_run=lambda tokens: (forward(torch.arange(tokens)), None), get_model=lambda: model,
        _update_states=lambda scheduled: None, _model_forward=lambda ids: forward(ids),
    )  # fmt: skip
    return GraphHooks(runner, model.melo_seat), runner


def test_the_class_is_the_base_class_where_no_store_is_named(hf):
    plain, other = Base(vllm_config=vllm_config(hf)), edited(Base)(vllm_config=vllm_config(hf))
    assert other.melo_seat is None and type(other).__name__ == "Base" and isinstance(other, Base)
    ids = torch.arange(7)
    assert torch.equal(plain(ids), other(ids)) and set(plain.state_dict()) == set(other.state_dict())


def test_two_ops_are_put_in_before_vllm_compiles(model, config, hf, store_path):
    seat, compilation = model.melo_seat, config.compilation_config
    assert compilation.static_forward_context == {SEAT: seat}
    assert compilation.splitting_ops == ["vllm::attention", ops.TAKE]
    settings = settings_of(Store.open(store_path), "Llama")
    assert config.additional_config["meloedit_graph"][: 1 + len(settings.modules)] == [
        settings.key_layer, *settings.modules,
    ]  # fmt: skip
    plain = Base(vllm_config=vllm_config(hf))
    assert set(model.state_dict()) == set(plain.state_dict())  # so the weights load as they did
    assert not hasattr(type(plain.model.layers[0].mlp.down_proj.quant_method), "melo_rows")
    ids = torch.arange(7)
    assert torch.equal(model(ids), plain(ids))


def test_the_probe_sees_each_op_in_eager_and_in_compiled_passes(model, context):
    hooks, _ = probed(model, model)
    hooks.probe()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    probed(model, compiled)[0].probe()
    ids = torch.arange(8)
    assert model(ids).isfinite().all()
    assert torch.allclose(compiled(ids), model(ids), atol=1e-5)


def test_the_probe_sees_an_op_that_does_not_run(model, context, hf):
    plain = Base(vllm_config=vllm_config(hf))
    with pytest.raises(ModelError, match="without the op behind"):
        probed(model, plain)[0].probe()  # compiled code of another class
    name, linear = next(iter(model.melo_seat.linears.items()))
    linear.quant_method = UnquantizedMethod()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        probed(model, model)[0].probe()


def test_the_probe_sees_a_key_layer_without_its_op(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm.forward_context", None)  # nobody finds the seat: as inside of a graph
    with pytest.raises(ModelError, match="without the op behind"):
        probed(model, model)[0].probe()


@torch.no_grad()
def test_a_block_changes_the_row_of_its_token_and_no_other_bit(model, context):
    wide, ids = model.melo_seat.wide, torch.arange(9)
    base = model(ids)
    torch.manual_seed(2)
    factors = {
        name: Factors(torch.randn(2, one.input_size), torch.randn(one.output_size, 2), torch.randn(2, 2))
        for name, one in model.melo_seat.linears.items()
    }
    wide.seat("a", Answer(0, 0, factors), ["a"])
    wide.rows[3] = 1
    found = model(ids)
    rest = [0, 1, 2, 4, 5, 6, 7, 8]
    assert torch.equal(found[rest], base[rest]) and not torch.allclose(found[3], base[3], atol=1e-2)


class State:
    """What the V2 runner keeps beside a model, as far as edits know it."""

    def __init__(self, vllm_config, model):
        self.model, self.seen = model, []

    def add_request(self, req_index, new_req_data):
        self.seen.append(new_req_data.req_id)

    def initialize_kv_cache(self, kv_cache_config, block_tables):
        self.seen.append("cache")

    def preprocess_state(self, input_batch, block_tables, kv_cache_config, num_computed_tokens):
        self.seen.append("pass")


def batch_of(names, past, counts):
    begin = torch.tensor([0, *counts]).cumsum(0).numpy()
    return SimpleNamespace(
        req_ids=names, num_reqs=len(names), query_start_loc_np=begin, num_computed_tokens_np=past,
        num_tokens=int(begin[-1]),
    )  # fmt: skip


def served_of(model, host, store_path, view):
    follower = Follower(lambda: live_of(host, store_path))
    seat = model.melo_seat
    seat.served = GraphServed(view, seat.wide, seat.crew(None), host, follower)
    return seat.served


def second(model, blocks=40, size=4):
    """A model state of the V2 runner over a KV cache of so many blocks."""
    state = state_class(State)(None, model)
    state.initialize_kv_cache(SimpleNamespace(num_blocks=blocks), SimpleNamespace(block_sizes=[size]))
    return state


def request(name, ids, answered=()):
    return SimpleNamespace(req_id=name, prompt_token_ids=list(ids), prefill_token_ids=[*ids, *answered])


def take(seat, states):
    """What ``take_states`` does in a pass."""
    seat.wide.states[: len(states)] = states
    seat.decide(seat.wide.states[: len(states)], seat.wide.rows, seat.wide.places)


def test_v2_routes_prompts_in_chunks_as_the_editor_does(model, host, llama, store_path):
    rows, want = mixed_prompts(llama)
    state, seat = second(model), model.melo_seat
    served = served_of(model, host, store_path, seat.view)
    for turn, ids in enumerate(rows):
        name, blocks = f"r{turn}", -(-len(ids) // 4)
        table = (torch.arange(1, blocks + 1, dtype=torch.int32)[None],)
        states, half = states_of(llama, ids), len(ids) // 2
        state.add_request(0, request(name, ids))
        for past, part in ((0, states[:half]), (half, states[half:])):
            state.preprocess_state(batch_of([name], [past], [len(part)]), table, None, None)
            take(seat, part)
        fired = served.requests.told(name)[name]["edit"]
        assert fired == want[turn]
        assert bool(seat.wide.rows[len(ids) - half - 1]) == (fired is not None) and not seat.wide.rows[: half - 1].any()
        seat.drop({name})
    assert not len(served.requests) and (seat.wide.owners == -1).all()


def test_v2_keeps_the_route_of_a_preempted_request(model, host, llama, store_path, tmp_path):
    state, seat, path = second(model), model.melo_seat, shutil.copy(store_path, tmp_path / "own.melo")
    served = served_of(model, host, path, seat.view)
    ids = llama.backbone.encode(BOOK.prompt).ids
    count = len(ids)
    table = (torch.arange(1, 12, dtype=torch.int32)[None],)
    state.add_request(0, request("a", ids))
    state.preprocess_state(batch_of(["a"], [0], [count]), table, None, None)
    take(seat, states_of(llama, ids))
    assert served.requests.told()["a"]["edit"] == BOOK.id
    with Store.open(path) as store:  # an edit that goes meanwhile does not change an answer half way
        store.remove([BOOK.id])
    served._follower.look()
    state.add_request(0, request("a", ids, [5, 6]))  # preempted, and begun anew with what it had answered
    state.preprocess_state(batch_of(["a"], [0], [count + 2]), table, None, None)
    take(seat, torch.randn(count + 2, host.key_size))
    assert seat.wide.rows[: count + 2].nonzero().flatten().tolist() == [count - 1, count, count + 1]
    assert len(seat.wide.places[: count + 2].unique()) == 4  # none, and three places
    longer = [*ids, 7]
    state.add_request(0, request("a", longer))  # a caller has added to its prompt: it is another one
    state.preprocess_state(batch_of(["a"], [0], [count + 1]), table, None, None)
    assert not seat.wide.rows.any()
    take(seat, states_of(llama, longer))
    assert served.requests.told()["a"]["tokens"] == count + 1 and served.requests.told()["a"]["edit"] != BOOK.id


def test_v1_and_v2_see_the_same_slots(host):
    first = RunnerView(runner_of([[3, 7], [3, 5]], 4, {}))
    view = StateView()
    view.resize(16, 4)
    for name in ("a", "b"):
        view.add(name, [1, 2, 3])
    view.take(batch_of(["a", "b"], [0, 0], [3, 3]), (torch.tensor([[3, 7], [3, 5]], dtype=torch.int32),))
    places, positions = torch.tensor([0, 0, 1, 1]).numpy(), torch.tensor([0, 6, 3, 5]).numpy()
    assert torch.equal(first.slots_of(places, positions), view.slots_of(places, positions))
    assert view.slots == first.slots and view.current().prompts.tolist() == [3, 3] and view.current() is None


def test_finished_requests_are_forgotten_by_both_runners(model, host, store_path):
    served = served_of(model, host, store_path, RunnerView(runner_of([[0]], 4, {})))
    hooks, runner = probed(model, model)
    hooks.attach(served)
    served._answers["a"] = None
    runner._update_states(SimpleNamespace(finished_req_ids={"a", "b"}))
    assert not served._answers
    hooks.detach()
    assert model.melo_seat.served is None


def test_a_block_acts_no_longer_once_its_store_is_closed(model, host, llama, store_path, tmp_path):
    path = shutil.copy(store_path, tmp_path / "without.melo")
    with Store.open(path) as store:
        store.remove([BOOK.id])
    state, seat, (hooks, _) = second(model), model.melo_seat, probed(model, model)
    ids = llama.backbone.encode(BOOK.prompt).ids
    table = (torch.arange(1, 12, dtype=torch.int32)[None],)

    def served(where):
        return GraphServed(seat.view, seat.wide, seat.crew(None), host, Follower(lambda: live_of(host, where)))

    hooks.attach(served(store_path))
    state.add_request(0, request("a", ids))
    state.preprocess_state(batch_of(["a"], [0], [len(ids)]), table, None, None)
    take(seat, states_of(llama, ids))
    assert seat.wide.rows.any()
    hooks.detach()
    assert not seat.wide.rows.any() and (seat.wide.owners == -1).all()
    hooks.attach(other := served(path))  # while the request runs
    state.preprocess_state(batch_of(["a"], [len(ids)], [1]), table, None, None)
    take(seat, torch.zeros(1, host.key_size))
    assert other.requests.told()["a"]["edit"] is None and not seat.wide.rows.any()


def test_stores_with_other_places_or_larger_blocks_are_refused(model, host, store_path):
    settings = settings_of(Store.open(store_path), "Llama")
    model.melo_seat.check(settings)
    other = SimpleNamespace(key_layer=settings.key_layer, modules=["model.layers.0.mlp.down_proj"])
    with pytest.raises(ModelError, match="start it anew"):
        model.melo_seat.check(other)
    host.limits = (1, 1)
    with pytest.raises(StoreError, match="too large for this server"):
        live_of(host, store_path).check(Store.open(store_path).model)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cudagraph_mode": "CUDAGraphMode.FULL_AND_PIECEWISE"}, "PIECEWISE or NONE"),
        ({"cudagraph_mode": "CUDAGraphMode.FULL"}, "PIECEWISE or NONE"),
        ({"mode": 1}, "mode 1"),
        ({"use_inductor_graph_partition": True}, "use_inductor_graph_partition"),
        ({"pass_config": SimpleNamespace(enable_sp=True)}, "enable_sp"),
    ],
)
def test_what_ops_cannot_do_is_refused_in_one_line(hf, store_path, change, line):
    with pytest.raises(ModelError, match=line) as refused:
        edited(Base)(vllm_config=vllm_config(hf, store_path, **change))
    assert "\n" not in str(refused.value)
