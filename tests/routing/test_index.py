"""The index against literal models of what it promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from meloedit.keys.names import SLOTS
from meloedit.keys.similarity import Similarity
from meloedit.routing.index import SHORTLIST, NeuronIndex

SIZE = 8


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def named(*shape, seed=0):
    """Keys with names: one to three words of nine, whose shares add up to 1."""
    rng = torch.Generator().manual_seed(seed)
    words = torch.zeros(*shape[:-1], SLOTS)
    words[..., :3] = torch.randint(0, 10, (*shape[:-1], 3), generator=rng).float()
    words[..., 1][words[..., 1] == words[..., 0]] = 0
    words[..., 2][(words[..., 2] == words[..., 0]) | (words[..., 2] == words[..., 1])] = 0
    words[..., 0][words.sum(-1) == 0] = 11
    shares = torch.rand(words.shape, generator=rng) * (words > 0)
    parts = unit(*shape[:-1], SIZE, seed=seed), unit(*shape[:-1], 4, seed=seed + 1)
    return torch.cat([*parts, words, shares / shares.sum(-1, keepdim=True)], -1)


PLAIN, NAMED = Similarity(SIZE), Similarity(SIZE, 4)
MAKE = {PLAIN: unit, NAMED: named}


def make(by, count, seed=0):
    return MAKE[by](count, by.said, seed=seed)


def literal_similarity(by, query, key):
    """Return s as its definition says, of one query and one key in float64."""
    q, e, at = query.double(), key.double(), by.said + by.asked
    said = q[: by.said] @ e[: by.said]
    if not by.asked:
        return said.item()
    heard = {word for word in q[at : at + SLOTS].tolist() if word}
    shares = zip(e[at : at + SLOTS].tolist(), e[at + SLOTS :].tolist(), strict=True)
    mentioned = sum(share for word, share in shares if word in heard)
    asked = q[by.said : at] @ e[by.said : at]
    return ((said + 2 * mentioned * (1 + asked)) / 5).item()


class Literal:
    """The index's promises, one edit at a time, in float64."""

    def __init__(self, by=PLAIN):
        self.by, self.edits = by, {}

    def distances(self, keys, query):
        return torch.tensor([self.distance(key, query) for key in keys], dtype=torch.float64)

    def distance(self, key, query):
        """Return sqrt(2 - 2 s) by differences, since products lose the small ones."""
        q, e, at = query.double(), key.double(), self.by.said + self.by.asked
        said = (q[: self.by.said] - e[: self.by.said]).norm()
        if not self.by.asked:
            return said.item()
        heard = {word for word in q[at : at + SLOTS].tolist() if word}
        shares = zip(e[at : at + SLOTS].tolist(), e[at + SLOTS :].tolist(), strict=True)
        missed = sum(share for word, share in shares if word not in heard)
        asked = (q[self.by.said : at] - e[self.by.said : at]).norm()
        return ((said**2 + 8 * missed + 2 * (1 - missed) * asked**2) / 5).sqrt().item()

    def search(self, query):
        """Return nearest edit and distance (of equally near ones the newest), then the same of what is hushed."""
        best, hushed = (math.inf, 0), (math.inf, 0)
        for owner, (keys, quiet) in self.edits.items():
            distances, quiet_at = self.distances(keys, query), self.distances(quiet, query)
            nearest = distances.min().item()
            if len(quiet) and quiet_at.min().item() <= nearest:
                hushed = min(hushed, (nearest, -owner))
            else:
                best = min(best, (nearest, -owner))
        nearer = hushed[0] <= best[0] and hushed[0] < math.inf
        return -best[1] if best[0] < math.inf else -1, best[0], -hushed[1] if nearer else -1, hushed[0]

    def similarity(self, prompts, rate, floor):
        keys = [keys for keys, _ in self.edits.values()]
        best = torch.full((len(prompts),), -1.0)
        if keys:
            near = [[literal_similarity(self.by, prompt, key) for key in torch.cat(keys)] for prompt in prompts]
            best = torch.tensor(near).max(1).values
        place = math.ceil((len(prompts) + 1) * (1 - rate))
        return math.inf if place > len(prompts) else max(floor, sorted(best.tolist())[place - 1])


def assert_agrees(index, literal, queries):
    hits = index.search(queries)
    for i, query in enumerate(queries):
        owner, distance, quieted, near = literal.search(query)
        assert hits.owner[i] == owner
        assert hits.distance[i].item() == pytest.approx(distance, abs=1e-5)
        assert hits.quieted[i] == quieted
        if quieted >= 0:
            assert hits.quieted_distance[i].item() == pytest.approx(near, abs=1e-5)


def test_search_is_exact():
    keys, queries = unit(3000, 64), unit(500, 64, seed=1)
    index = NeuronIndex(Similarity(64))
    for owner, part in enumerate(keys.split(3)):
        index.add(owner, part)
    distances = torch.cdist(queries.double(), keys.double())
    hits = index.search(queries)
    assert torch.equal(hits.owner, distances.argmin(1) // 3)
    assert torch.allclose(hits.distance.double(), distances.min(1).values, atol=1e-6)


def test_small_distances_survive_a_common_offset():
    # Keys that differ by 1e-4 around one direction: the expanded formula would lose all of it in float32.
    base = unit(1, 64)
    keys = F.normalize(base + 1e-4 * torch.randn(200, 64, generator=torch.Generator().manual_seed(2)), dim=1)
    queries = F.normalize(keys + 1e-5 * torch.randn(200, 64, generator=torch.Generator().manual_seed(3)), dim=1)
    index = NeuronIndex(Similarity(64))
    for owner, key in enumerate(keys):
        index.add(owner, key[None])
    distances = torch.cdist(queries.double(), keys.double(), compute_mode="donot_use_mm_for_euclid_dist")
    hits = index.search(queries)
    assert torch.equal(hits.owner, distances.argmin(1))
    assert torch.allclose(hits.distance.double(), distances.min(1).values, rtol=1e-2)


@pytest.mark.parametrize("twins", [2, 3 * SHORTLIST])
def test_of_equally_near_keys_the_newest_wins(twins):
    index, key = NeuronIndex(PLAIN), unit(1, SIZE)
    for owner in [5, 9, *range(10, 10 + twins), 2]:
        index.add(owner, key)
    assert index.search(key).owner.tolist() == [9 + twins]
    index.remove([9 + twins])
    assert index.search(key).owner.tolist() == [8 + twins]


@pytest.mark.parametrize("many", [1, 3 * SHORTLIST])
def test_quiet_keys_hush_their_own_edit_only(many):
    key, other = unit(2, SIZE).split(1)
    near = F.normalize(key + 0.01 * unit(many, SIZE, seed=4), dim=1)
    index = NeuronIndex(PLAIN)
    index.add(0, key, quiet=near)
    hits = index.search(near[:1])
    assert (hits.owner.tolist(), hits.quieted.tolist(), hits.distance.tolist()) == ([-1], [0], [math.inf])
    assert index.search(key).owner.tolist() == [0]
    index.add(1, other)
    hits = index.search(near[:1])
    assert (hits.owner.tolist(), hits.quieted.tolist()) == ([1], [0])
    index.add(2, F.normalize(key + 0.05 * other, dim=1))  # another edit nearby still fires
    hits = index.search(near[:1])
    assert (hits.owner.tolist(), hits.quieted.tolist()) == ([2], [0])
    assert hits.quieted_distance.item() < hits.distance.item() < 0.2


def test_a_prompt_at_a_quiet_key_is_quiet_even_at_the_edits_own_distance():
    key = unit(1, SIZE)
    index = NeuronIndex(PLAIN)
    index.add(0, key, quiet=key)
    assert index.search(key).owner.tolist() == [-1]


def test_an_empty_index_finds_nothing():
    hits = NeuronIndex(PLAIN).search(unit(3, SIZE))
    assert hits.owner.tolist() == hits.quieted.tolist() == [-1] * 3
    assert hits.distance.tolist() == [math.inf] * 3


# Few directions, so that keys tie, and quiet keys lie on edits' keys.
VECTORS = {PLAIN: torch.cat([torch.eye(4, SIZE), -torch.eye(2, SIZE), unit(9, SIZE)]), NAMED: named(15, SIZE)}
vectors = st.lists(st.integers(0, 14), min_size=1, max_size=6)
quiets = st.lists(st.integers(0, 14), max_size=4)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 12), vectors, quiets),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 14), max_size=4)),
        st.tuples(st.just("keep")),
        st.tuples(st.just("open")),
        st.tuples(st.just("calibrate"), st.sampled_from([0.02, 0.1, 0.5]), st.sampled_from([-1.0, 0.3])),
    ),
    max_size=25,
)


@pytest.mark.parametrize("by", [PLAIN, NAMED], ids=["plain", "named"])
@settings(max_examples=40, deadline=None)
@given(stream=changes)
def test_any_stream_of_changes_keeps_the_promises(by, stream):
    index, literal, prompts = NeuronIndex(by), Literal(by), make(by, 40, seed=7)
    rate, floor = 0.1, -1.0
    index.calibrate(prompts, rate, floor)
    kept = None
    for change, *values in stream:
        if change == "add":
            owner, keys, quiet = values[0], VECTORS[by][values[1]], VECTORS[by][values[2]]
            if kept and owner in kept.held:  # the number of a store's record never stands for other keys
                kept = None
            index.add(owner, keys, quiet)
            literal.edits[owner] = (keys, quiet)
        elif change == "remove":
            index.remove(values[0])
            for owner in values[0]:
                literal.edits.pop(owner, None)
        elif change == "keep":
            kept = index.lists
        elif change == "open":  # as a store is opened: with lists of an earlier time, and other edits since
            index = NeuronIndex(by)
            for owner, own in literal.edits.items():
                index.add(owner, *own)
            index.calibrate(prompts, rate, floor, lists=kept)
        else:
            rate, floor = values
            index.calibrate(prompts, rate, floor)
        assert len(index) == len(literal.edits)
        assert index.similarity == pytest.approx(literal.similarity(prompts, rate, floor), abs=1e-6)
        assert_agrees(index, literal, torch.cat([VECTORS[by], prompts[:5]]))


def test_similarities_are_the_literal_ones_whichever_way_they_are_computed():
    queries, keys = named(50, SIZE, seed=3), named(70, SIZE, seed=5)
    expected = torch.tensor([[literal_similarity(NAMED, query, key) for key in keys] for query in queries])
    words, names = NAMED.listed(queries, names=False), NAMED.listed(keys, names=True)
    for found in (names.mentioned_by(NAMED.words(queries)), words.mentions(NAMED.words(keys))):
        assert torch.allclose(NAMED.between(queries, keys, found), expected, atol=1e-6)
    distances = NAMED.distances(queries, keys.expand(50, -1, -1))
    assert torch.allclose(1 - distances.square() / 2, expected, atol=1e-5)
    assert torch.equal(NAMED.distances(keys, keys[:, None])[:, 0], torch.zeros(70))  # each its own nearest
    assert expected.std() > 0.1 and (expected.argmax(1) != (queries[:, :SIZE] @ keys[:, :SIZE].T).argmax(1)).any()


# -- scope


def test_the_scope_is_the_literal_quantile():
    prompts, keys = unit(100, SIZE), unit(3, SIZE, seed=1)
    index = NeuronIndex(PLAIN)
    index.calibrate(prompts, 0.05, 0.0)
    for owner, key in enumerate(keys):
        index.add(owner, key[None])
    best = (prompts @ keys.T).max(1).values.sort().values
    assert index.similarity == pytest.approx(best[95].item(), abs=1e-6)  # the ceil(101 * 0.95) = 96th smallest
    assert index.threshold == pytest.approx(math.sqrt(2 - 2 * best[95].item()), abs=1e-6)
    assert (best > index.similarity).sum() == 4
    index.calibrate(prompts, 0.05, 0.99)
    assert index.similarity == 0.99


def test_calibration_prompts_that_ask_an_edit_do_not_count_against_it():
    prompts, key = unit(100, SIZE), unit(1, SIZE, seed=1)
    index = NeuronIndex(PLAIN)
    index.add(0, key)
    index.calibrate(prompts, 0.05, 0.0)
    alone = index.similarity
    index.calibrate(torch.cat([prompts, key.expand(40, -1)]), 0.05, 0.0)
    assert index.similarity == alone
    index.remove([0])
    index.add(1, prompts[:1])
    best = (torch.cat([prompts[1:], key.expand(40, -1)]) @ prompts[0]).sort().values
    assert index.similarity == pytest.approx(best[132].item(), abs=1e-6)  # the ceil(140 * 0.95) = 133rd smallest


@pytest.mark.parametrize(("count", "fires"), [(18, False), (19, True)])
def test_too_few_prompts_for_the_rate_let_nothing_fire(count, fires):
    index = NeuronIndex(PLAIN)
    index.add(0, unit(1, SIZE))
    index.calibrate(unit(count, SIZE, seed=3), 0.05, 0.0)
    assert (index.search(unit(1, SIZE)).distance.item() < index.threshold) == fires


def test_neighbours():
    a, b, c = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.5, 0], [0, 0, 1]]), dim=1).split(1)
    index = NeuronIndex(Similarity(3))
    index.calibrate(torch.zeros(0, 3), 0.5, 0.8)
    index.add(3, a)
    assert index.neighbours(3) == (-1, math.inf, [])
    index.add(4, torch.cat([c, b]), quiet=a)
    index.add(5, c)
    assert index.neighbours(3) == (4, pytest.approx((a - b).norm().item()), [4])
    assert index.neighbours(5) == (4, 0.0, [4])
    assert index.neighbours(4)[2] == [3, 5]
    index.remove([4])
    assert index.neighbours(3) == (5, pytest.approx(math.sqrt(2)), [])
