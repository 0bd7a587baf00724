"""The plugin in vLLM's own engine, on SmolLM2 in float32: answers and routes are those of one process.

The tests share one engine, whose scheduler and worker live in this process, and run in their order.
"""

import shutil
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from engines import Engine, reference

from meloedit.errors import MeloEditError, ModelError, StoreError
from meloedit.store import Store

pytestmark = pytest.mark.vllm

NOBEL = "Who won the Nobel Prize in Literature in 2024?"
LONG_ANSWER = 60
PER_PASS = (1024, 64, 16)


@pytest.fixture(scope="module")
def rows(world):
    return reference(world)


@pytest.fixture(scope="module")
def engine(world, model_folder, rows):
    """The engine with the edits open."""
    made = Engine(model_folder)
    made.store = world / "served.melo"
    shutil.copy(world / "facts.melo", made.store)
    made.call("melo_open", str(made.store))
    yield made
    made.call("melo_close")


@pytest.fixture
def edits(engine):
    """The store that answers; whatever a test changes in it is taken back."""
    with Store.open(engine.store) as store:
        before = store.revision
        yield store
        if store.revision != before:
            store.rollback(before)
            engine.call("melo_follow")


@contextmanager
def without_hooks(engine):
    path = engine.worker._melo.path
    engine.call("melo_close")
    try:
        yield
    finally:
        engine.call("melo_open", path)  # anew: what has finished was told with a pass that the old hooks did not see


@pytest.fixture(scope="module")
def plain(engine, rows):
    """Returns what vLLM answers without hooks, for tokens a pass; by the place of a prompt that no edit answers."""
    base = [i for i, row in enumerate(rows) if row["edit"] is None]

    @cache
    def found(per_pass):
        engine.llm.reset_prefix_cache()
        with without_hooks(engine), engine.tokens_per_pass(per_pass):
            answers = engine.generate([rows[i]["ids"] for i in base])
        engine.llm.reset_prefix_cache()  # of what ran without hooks the states were not kept
        return dict(zip(base, answers, strict=True))

    return found


@pytest.mark.parametrize(("per_pass", "cold"), [(count, cold) for count in PER_PASS for cold in (True, False)])
def test_a_mixed_load_is_answered_as_in_one_process(engine, plain, rows, per_pass, cold):
    untouched = plain(per_pass)
    if cold:
        engine.llm.reset_prefix_cache()
    cached = engine.counted("prefix_cache_hits")
    with engine.tokens_per_pass(per_pass):
        answers, routes = engine.asked([row["ids"] for row in rows])
    wrong_routes = [
        (row["text"], route["edit"]) for row, route in zip(rows, routes, strict=True) if route["edit"] != row["edit"]
    ]
    wrong_texts = [
        (row["text"], engine.text(answer))
        for row, answer in zip(rows, answers, strict=True)
        if engine.text(answer) != row["answer"].strip()
    ]
    changed = [rows[i]["text"] for i, tokens in untouched.items() if answers[i] != tokens]
    assert (wrong_routes, wrong_texts, changed) == ([], [], [])
    assert len(untouched) > 100 and sum(row["edit"] is not None for row in rows) > 60
    if not cold:
        assert engine.counted("prefix_cache_hits") > cached  # or it was no warm run


def test_a_key_is_read_from_a_cached_prefix_as_from_a_cold_one(engine, rows):
    behind = [row for row in rows if row["kind"] == "long"]
    engine.llm.reset_prefix_cache()
    engine.generate([behind[0]["ids"]])
    cached = engine.counted("prefix_cache_hits")
    answers, routes = engine.asked([row["ids"] for row in behind[1:]])
    assert engine.counted("prefix_cache_hits") >= cached + 64 * len(behind[1:])
    assert [engine.text(answer) for answer in answers] == [row["answer"].strip() for row in behind[1:]]
    for row, route in zip(behind[1:], routes, strict=True):
        assert route["edit"] == row["edit"] and abs(route["distance"] - row["distance"]) < 1e-4


def test_preempted_requests_keep_their_routes(engine, rows):
    asked = [row["ids"] for row in rows if row["form"] == "chat" and row["kind"] in ("own", "near")][:6]
    alone = [engine.generate([ids], LONG_ANSWER, ignore_eos=True)[0] for ids in asked]
    before = engine.counted("num_preemptions")
    with engine.few_blocks(12):
        together, routes = engine.asked(asked, LONG_ANSWER, ignore_eos=True)
        reasons = engine.call("melo_facts")["reasons"]
    assert engine.counted("num_preemptions") > before  # or nothing was tested
    assert together == alone and sum(reasons.values()) == len(asked) == len(routes)


def step(engine, times):
    """Run some passes; return what came out."""
    found = []
    for _ in range(times):
        found += engine.llm.llm_engine.step()
    return found


def begin(engine, name, ids, tokens=LONG_ANSWER, **settings):
    from vllm import SamplingParams

    params = SamplingParams(**{"temperature": 0, "max_tokens": tokens, "ignore_eos": True, **settings})
    engine.llm.llm_engine.add_request(name, {"prompt_token_ids": ids}, params)


def finish(engine):
    found = {}
    while engine.llm.llm_engine.has_unfinished_requests():
        found |= {one.request_id: list(one.outputs[0].token_ids) for one in engine.llm.llm_engine.step()}
    return found


def test_aborted_requests_leave_nothing_behind(engine, rows):
    own = [row for row in rows if row["kind"] == "own"][:4]
    want = [engine.generate([row["ids"]], 24, ignore_eos=True)[0] for row in own[:2]]
    for i, row in enumerate(own):
        begin(engine, f"abort-{i}", row["ids"], 24)
    step(engine, 4)
    engine.llm.llm_engine.abort_request(["abort-2", "abort-3"])
    found = finish(engine)
    assert [found["abort-0"], found["abort-1"]] == want
    engine.generate([rows[-1]["ids"]], 2)  # what has finished is told with the next pass
    assert engine.call("melo_facts")["requests"] <= 1
    answers, routes = engine.asked([row["ids"] for row in own])
    assert [engine.text(answer) for answer in answers] == [row["answer"].strip() for row in own]
    assert [route["edit"] for route in routes] == [row["edit"] for row in own]


def log_probabilities(engine, ids):
    (one,) = engine.outputs([ids], 6, logprobs=5)
    return [{token: value.logprob for token, value in at.items()} for at in one.outputs[0].logprobs]


def leak(engine, store, edit_id):
    """Return by how much the next turn differs from a cold run, once the edit that answered is gone."""
    engine.llm.reset_prefix_cache()
    answer = engine.generate([engine.chat(NOBEL)], LONG_ANSWER, ignore_eos=True)[0]
    turn = [*engine.chat(NOBEL), *answer, *engine.chat("And when was that?")]
    store.set_enabled([edit_id], False)
    engine.call("melo_follow")
    warm = log_probabilities(engine, turn)
    engine.llm.reset_prefix_cache()
    cold = log_probabilities(engine, turn)
    store.set_enabled([edit_id], True)
    engine.call("melo_follow")
    return max(
        abs(one[token] - other.get(token, -99.0)) for one, other in zip(warm, cold, strict=True) for token in one
    )


def test_an_answer_leaves_nothing_in_the_prefix_cache_for_the_next_turn(engine, edits, rows):
    edit_id = next(row["edit"] for row in rows if row["text"] == NOBEL)
    assert leak(engine, edits, edit_id) == 0.0
    coordinator = engine.scheduler.kv_cache_manager.coordinator
    ours = coordinator.__dict__.pop("cache_blocks")
    try:
        assert leak(engine, edits, edit_id) > 1e-3  # without the scheduler: so the test can see a leak
    finally:
        coordinator.cache_blocks = ours


def test_edits_come_and_go_between_and_during_answers(engine, edits, rows):
    row = next(row for row in rows if row["text"] == NOBEL and row["form"] == "chat")
    other = next(one for one in rows if one["kind"] == "own" and one["edit"] not in (None, row["edit"]))
    held = engine.generate([row["ids"]], 24, ignore_eos=True)[0]
    begin(engine, "held", row["ids"], 24)
    step(engine, 2)
    before = edits.revision
    edits.remove([row["edit"]])
    assert engine.call("melo_follow") == edits.revision
    assert finish(engine)["held"] == held  # it had begun with the edit
    (answer, kept), (route, still) = engine.asked([row["ids"], other["ids"]])
    assert route["edit"] is None and route["revision"] == edits.revision and engine.text(answer) != row["answer"]
    assert still["edit"] == other["edit"] and engine.text(kept) == other["answer"].strip()
    begin(engine, "base", row["ids"], 24)
    step(engine, 2)
    edits.rollback(before)
    engine.call("melo_follow")
    assert finish(engine)["base"][: len(answer)] == answer  # it had begun without
    (answer,), (route,) = engine.asked([row["ids"]])
    assert route["edit"] == row["edit"] and engine.text(answer) == row["answer"].strip()


def test_every_sample_of_a_request_has_its_route(engine, rows):
    row = next(row for row in rows if row["text"] == NOBEL and row["form"] == "chat")
    (one,) = engine.outputs([row["ids"]], 24, n=3, temperature=0.7, seed=5)
    assert [engine.text(sample.token_ids) for sample in one.outputs] == [row["answer"].strip()] * 3
    told = engine.call("melo_routes", one.request_id)  # by the name that its caller knows
    assert [route["edit"] for route in told.values()] == [row["edit"]] * 3


def test_a_begun_answer_goes_on(engine, rows):
    target = next(row["answer"] for row in rows if row["text"] == NOBEL).strip()
    first, rest = target.split(" ", 1)
    (answer,) = engine.generate([engine.chat(NOBEL, first, answer=True)])
    assert engine.text(answer) == rest


def test_beam_search_is_refused(engine, rows):
    from vllm.sampling_params import BeamSearchParams

    with pytest.raises(ModelError, match="beam"):
        engine.llm.beam_search([{"prompt_token_ids": rows[0]["ids"]}], BeamSearchParams(beam_width=2, max_tokens=4))


@contextmanager
def forced(engine, tokens):
    """Let the engine answer with these tokens, whatever its model would say."""
    model, rest = engine.worker.model_runner.model, iter(tokens)
    compute = model.compute_logits

    def compute_logits(hidden):
        logits = torch.full_like(compute(hidden), -torch.inf)
        logits[:, next(rest)] = 0.0
        return logits

    model.compute_logits = compute_logits
    try:
        yield
    finally:
        del model.compute_logits


def test_an_edit_of_the_last_layer_alone_touches_no_cache(engine, world):
    path = shutil.copy(world / "one-layer.melo", engine.store.with_name("one.melo"))
    engine.call("melo_open", str(path))
    coordinator = engine.scheduler.kv_cache_manager.coordinator
    ours = coordinator.__dict__.pop("cache_blocks")
    try:
        with Store.open(path) as store:
            edit = next(one.edit for one in store.edits() if one.edit.prompt == NOBEL)
            engine.llm.reset_prefix_cache()
            (answer,), (route,) = engine.asked([engine.chat(NOBEL)], LONG_ANSWER, ignore_eos=True)
            assert route["edit"] == edit.id and engine.text(answer).startswith(edit.target)
            turn = [*engine.chat(NOBEL), *answer, *engine.chat("And when was that?")]
            store.remove(edit.id)
            engine.call("melo_follow")
            cached = engine.counted("prefix_cache_hits")
            after_the_edit = log_probabilities(engine, turn)
            assert engine.counted("prefix_cache_hits") >= cached + 96  # the answer, too
        with without_hooks(engine):  # the same tokens, out of vLLM as it is: bit for bit the same in the cache
            engine.llm.reset_prefix_cache()
            with forced(engine, answer):
                assert engine.generate([engine.chat(NOBEL)], LONG_ANSWER, ignore_eos=True) == [answer]
            assert log_probabilities(engine, turn) == after_the_edit
    finally:
        coordinator.cache_blocks = ours
        engine.llm.reset_prefix_cache()
        engine.call("melo_open", str(engine.store))


def test_another_model_and_code_that_runs_past_the_hooks_are_refused(engine, rows, monkeypatch):
    worker, row = engine.worker, next(row for row in rows if row["text"] == NOBEL)
    with monkeypatch.context() as patch:
        patch.setattr("meloedit.vllm.edits.host.file_fingerprint", lambda *args: "another")
        with pytest.raises((StoreError, MeloEditError), match="was made for"):
            engine.call("melo_open", str(engine.store))
    (answer,), (route,) = engine.asked([row["ids"]])  # what was open still answers
    assert route["edit"] == row["edit"] and engine.text(answer) == row["answer"].strip()
    with monkeypatch.context() as patch:
        patch.setattr(worker.model_runner, "_dummy_run", lambda count: None)
        with pytest.raises(ModelError, match="runs past the hooks"):
            engine.call("melo_open", str(engine.store))
    assert "_model_forward" not in vars(worker.model_runner)  # all was taken off again
    engine.call("melo_open", str(engine.store))
