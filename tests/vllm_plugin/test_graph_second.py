"""vLLM's second runner, and what both runners forget: the model state tells of passes, and routes stay or go."""

import shutil
from types import SimpleNamespace

import torch
from parts import live_of, runner_of, states_of
from support.prompts import BOOK, mixed_prompts
from toy_model import probed

from meloedit.store import Store
from meloedit.vllm.edits.follower import Follower
from meloedit.vllm.graphs.served import GraphServed
from meloedit.vllm.graphs.state import state_class
from meloedit.vllm.runners.v1 import RunnerView
from meloedit.vllm.runners.v2 import StateView


class State:
    """What the V2 runner keeps beside a model, as far as edits know it."""

    def __init__(self, vllm_config, model):
        self.model, self.seen = model, []

    def add_request(self, req_index, new_req_data):
        self.seen.append(new_req_data.req_id)

    def remove_request(self, req_id):
        self.seen.remove(req_id)

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


def test_v2_keeps_no_prompts_of_finished_requests_while_no_store_is_open(model, host, llama, store_path):
    state, seat = second(model), model.melo_seat
    ids = llama.backbone.encode(BOOK.prompt).ids
    table = (torch.arange(1, 23, dtype=torch.int32).reshape(2, 11),)
    for name in ("done", "runs", "stopped"):
        state.add_request(0, request(name, ids))
    for name in ("done", "stopped"):
        state.remove_request(name)
    assert set(seat.view._prompts) == {"runs"}
    served = served_of(model, host, store_path, seat.view)  # opened while requests run, and one is preempted
    state.add_request(0, request("stopped", ids))
    state.preprocess_state(batch_of(["runs", "stopped"], [0, 0], [len(ids)] * 2), table, None, None)
    take(seat, torch.cat([states_of(llama, ids)] * 2))
    assert {name: one["edit"] for name, one in served.requests.told().items()} == {"runs": BOOK.id, "stopped": BOOK.id}
    state.remove_request("runs")  # preempted, as far as this is told: the route stays
    assert served.requests.blocks("runs") is not None and seat.view.prompt("runs") == ids


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
