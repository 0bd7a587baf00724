"""The parts of the plugin for vLLM that need no vLLM: what is refused, whose rows change, which revision answers."""

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from parts import a_pass, live_of, runner_of, states_of
from support.prompts import BOOK, EDITS, mixed_prompts
from support.threads import PATIENCE

from meloedit.backbones.layers import fingerprint
from meloedit.errors import ModelError, StoreError
from meloedit.hooks.bank import BlockBank
from meloedit.hooks.blocks import Factors, Site
from meloedit.store import Store
from meloedit.vllm.eager.deltas import Deltas
from meloedit.vllm.edits.follower import TURN, Follower
from meloedit.vllm.edits.passes import SlotStates
from meloedit.vllm.edits.requests import Prompt, Requests
from meloedit.vllm.runners.v1 import RunnerView
from meloedit.vllm.start.checks import STORE
from meloedit.vllm.start.fingerprint import file_fingerprint
from meloedit.vllm.worker import Worker


def test_states_of_chunks_and_of_cached_blocks_come_together():
    runner = runner_of([[3, 7], [3, 5]], 4, {})  # the second shares the first block with the first
    states = SlotStates(RunnerView(runner))
    states.reserve(2, torch.float32, torch.device("cpu"))
    whole = torch.arange(14.0).reshape(7, 2)
    states.write(a_pass(["a"], [0], [3], [7]), whole[:3])
    second = a_pass(["a"], [3], [4], [7])
    states.write(second, whole[3:])
    assert torch.equal(states.read(second, 0), whole)
    other = a_pass(["a", "b"], [7, 4], [1, 2], [7, 6])
    states.write(other, torch.tensor([[-9.0, -9.0], [90.0, 91.0], [92.0, 93.0]]))
    assert torch.equal(states.read(other, 1), torch.cat([whole[:4], torch.tensor([[90.0, 91.0], [92.0, 93.0]])]))


def random_bank():
    """A bank with blocks of two shapes, and how many numbers go in and out."""
    torch.manual_seed(0)
    site = Site("m", 6, 5, torch.float32, torch.device("cpu"))
    bank = BlockBank([site])
    for owner, (rank, places) in enumerate([(2, 3), (2, 3), (4, 0)]):
        factors = Factors(torch.randn(rank, 6), torch.randn(5, rank), torch.randn(rank, places))
        bank.add(owner, {"m": Factors(*(one.half() for one in factors))}, "answer")
    return bank


def test_a_pass_adds_to_each_request_what_its_row_would_get_alone():
    bank = random_bank()
    # a prompt that ends here, one under way, two answers, an answer that is computed again, the base model's
    one = a_pass(list("abcdef"), [0, 0, 9, 7, 2, 4], [5, 3, 1, 1, 6, 1], [5, 8, 6, 6, 4, 3])
    owners = [0, 1, 1, 2, 0, None]
    blocks = {
        place: bank.gather([owner], [int(one.prompts[place]) - 1])[0]
        for place, owner in enumerate(owners)
        if owner is not None
    }
    x, base = torch.randn(one.tokens, 6), torch.randn(one.tokens, 5)
    y, want = base.clone(), base.clone()
    for group in Deltas(torch.device("cpu")).of(one, list(blocks.items())):
        group.add("m", x, y)
    for place, block in blocks.items():
        rows = slice(int(one.begin[place]), int(one.begin[place + 1]))
        want[rows] = block.apply("m", x[None, rows], want[None, rows].clone(), int(one.past[place]))[0]
    assert torch.allclose(y, want, atol=1e-6) and not torch.equal(y, base)
    untouched = [*range(4), *range(5, 8), one.tokens - 1]
    assert torch.equal(y[untouched], base[untouched])


def test_requests_are_routed_as_the_editor_routes_them(llama, host, store_path):
    rows, want = mixed_prompts(llama)
    live, requests = live_of(host, store_path), Requests(host.reader)
    requests.decide(live, [Prompt(str(i), ids, states_of(llama, ids)) for i, ids in enumerate(rows)])
    told = requests.told()
    assert [told[str(i)]["edit"] for i in range(len(rows))] == want
    assert [requests.blocks(str(i)) is not None for i in range(len(rows))] == [edit is not None for edit in want]
    assert told["0"]["revision"] == llama.store.revision
    requests.drop(["0"])
    assert "0" not in requests and len(requests) == len(rows) - 1


def test_a_prompt_that_cannot_be_read_leaves_the_others_their_routes(llama, host, store_path):
    ids = llama.backbone.encode(BOOK.prompt).ids
    requests = Requests(host.reader)
    wrong = Prompt("wrong", [2**40, *ids], torch.zeros(len(ids) + 1, host.key_size))
    requests.decide(live_of(host, store_path), [wrong, Prompt("right", ids, states_of(llama, ids))])
    told = requests.told()
    assert (told["wrong"]["reason"], told["right"]["edit"]) == ("failed", BOOK.id)
    assert requests.blocks("wrong") is None and "wrong" in requests and dict(requests.reasons)["failed"] == 1


def test_a_prompt_that_ran_in_part_before_the_store_was_open_has_no_route(llama, host, store_path):
    ids = llama.backbone.encode(BOOK.prompt).ids
    states, requests = states_of(llama, ids), Requests(host.reader)
    states[:3] = 0.0  # as slots are that nothing was written to
    requests.decide(live_of(host, store_path), [Prompt("half", ids, states)])
    assert requests.told()["half"]["reason"] == "failed" and requests.blocks("half") is None


def test_routes_are_told_of_every_prompt_and_sample_of_a_request_and_of_no_other(llama, host, store_path):
    ids = llama.backbone.encode(BOOK.prompt).ids
    kinds = ("chatcmpl-a1", "0_chatcmpl-a2", "1_chatcmpl-a2", "chatcmpl-a12", "cmpl-a3-0", "cmpl-a3-1")
    names = [f"{kind}-9c0d6e4b" for kind in kinds]
    requests, states = Requests(host.reader), states_of(llama, ids)
    requests.decide(live_of(host, store_path), [Prompt(name, ids, states) for name in names])
    assert list(requests.told("chatcmpl-a1")) == names[:1] and list(requests.told("chatcmpl-a2")) == names[1:3]
    assert list(requests.told("cmpl-a3")) == names[4:] and not requests.told("chatcmpl") and not requests.told("c")
    assert list(requests.told()) == names


def test_a_begun_answer_goes_on_where_it_does_in_one_process(llama, host, store_path, monkeypatch):
    messages = [{"role": "user", "content": BOOK.prompt}, {"role": "assistant", "content": "Jor"}]
    ids = llama.backbone.encode(messages).ids
    gathered, bank = [], llama.engine.router.bank
    gather = bank.gather
    monkeypatch.setattr(bank, "gather", lambda *args: gathered.append(gather(*args)) or gathered[-1])
    (answer,) = llama.ask([messages], max_new_tokens=1)
    requests = Requests(host.reader)
    requests.decide(live_of(host, store_path), [Prompt("begun", ids, states_of(llama, ids))])
    ((want,), found) = gathered[-1], requests.blocks("begun")
    assert answer.route.edit == requests.told()["begun"]["edit"] == BOOK.id
    assert (found.starts, found.answers) == (want.starts, want.answers)


def test_a_change_answers_from_the_next_pass_on_and_a_removed_block_stays_with_its_request(host, store_path, tmp_path):
    path = shutil.copy(store_path, tmp_path / "own.melo")
    follower = Follower(lambda: live_of(host, path))
    first = follower.live
    block = host.bank.gather([next(iter(first.holders))], [0])[0]
    kept = block.factors[host.bank.sites[0].name].a.clone()
    with Store.open(path) as store:
        store.remove([BOOK.id])
        with ThreadPoolExecutor(1) as pool:
            with follower.lock:  # a pass runs: what answers stays
                looked = pool.submit(follower.look)
                assert not wait([looked], 0.3).done
                assert follower.live is first and first.revision == store.revision - 1
            assert looked.result(PATIENCE) == store.revision and follower.live is not first
    assert first.revision == follower.live.revision and len(host.bank.owners) == len(EDITS) - 1
    assert torch.equal(block.factors[host.bank.sites[0].name].a, kept)
    with Store.open(path) as store:
        store.rollback(store.revision - 1)
    follower.look()
    assert follower.live is first and len(host.bank.owners) == len(EDITS)


@pytest.mark.parametrize(
    "damage", [lambda path: os.truncate(path, 2000), os.unlink, lambda path: path.write_text("no")]
)
def test_a_store_that_cannot_be_followed_leaves_the_old_edits_answering(host, store_path, tmp_path, damage):
    path = Path(shutil.copy(store_path, tmp_path / "own.melo"))
    follower = Follower(lambda: live_of(host, path), every=0.01)
    revision = follower.live.revision

    def wait_for(troubled):
        end = time.monotonic() + PATIENCE
        while bool(follower.trouble) != troubled and time.monotonic() < end:
            time.sleep(0.01)

    follower.start()
    damage(path)
    wait_for(True)
    assert follower.trouble and "\n" not in follower.trouble and follower.live.revision == revision
    shutil.copy(store_path, path)  # back from a copy
    wait_for(False)
    follower.stop()
    assert follower.trouble is None and follower.live.revision == revision


def test_a_follower_gives_the_turns_of_threads_back(host, store_path):
    before = sys.getswitchinterval()
    follower = Follower(lambda: live_of(host, store_path))
    follower.start()
    assert sys.getswitchinterval() <= TURN * 1.01
    follower.stop()
    assert sys.getswitchinterval() == before


def test_a_store_that_cannot_be_opened_leaves_the_one_that_answers(monkeypatch):
    done = []

    class Opened:
        def __init__(self, worker, path, every):
            if path == "bad":
                raise StoreError("damaged")
            self.path, self.served = path, SimpleNamespace(facts=lambda: {"path": path})

        def start(self):
            done.append(("start", self.path))

        def close(self):
            done.append(("close", self.path))

    monkeypatch.setattr("meloedit.vllm.worker.Attached", Opened)
    worker = Worker()
    worker.vllm_config = SimpleNamespace(additional_config={STORE: "named"})
    assert worker.melo_open("one") == {"path": "one"}
    with pytest.raises(StoreError):
        worker.melo_open("bad")
    assert done == [("start", "one")] and worker.melo_facts() == {"path": "one"}
    assert worker.melo_start() == {"path": "one"}  # as a second API server does
    worker.melo_close()
    assert worker.melo_start() == worker.melo_start() == {"path": "named"}
    assert done[1:] == [("close", "one"), ("start", "named")]
    assert worker.melo_open() == {"path": "named"} and done[3:] == [("close", "named"), ("start", "named")]


def test_a_store_that_was_moved_to_another_model_never_answers(host, store_path, tmp_path):
    path = shutil.copy(store_path, tmp_path / "own.melo")
    follower = Follower(lambda: live_of(host, path))
    first = follower.live
    with Store.open(path) as store:
        (_, tensors, info), blocks = store.calibration(), store.tensors()
        keys = {edit_id: own for edit_id, (_, own) in blocks.items()}
        store.calibrate(tensors, info, keys, {**store.model, "fingerprint": "another"})
    for _ in range(2):  # the first look reads all of the store, the second what has changed
        with pytest.raises(StoreError, match="moved to another model"):
            follower.look()
        assert follower.live is first


def test_the_files_of_a_model_have_the_fingerprint_of_the_loaded_model(make_model, tmp_path):
    for name, changes in (("tied", {"tie_word_embeddings": True}), ("untied", {"tie_word_embeddings": False})):
        model = make_model("llama", **changes)
        model.save_pretrained(tmp_path / name)
        assert file_fingerprint(str(tmp_path / name)) == fingerprint(model)
    with torch.no_grad():
        model.get_submodule("model.layers.0.mlp.gate_proj").weight.zero_()  # vLLM has it merged with another
    model.save_pretrained(tmp_path / "other")
    assert file_fingerprint(str(tmp_path / "other")) != file_fingerprint(str(tmp_path / "untied"))
    with pytest.raises(ModelError, match="safetensors"):
        file_fingerprint(str(tmp_path))
