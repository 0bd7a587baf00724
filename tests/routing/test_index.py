"""The index against literal models of what it promises."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.index_oracle import (
    NAMED,
    PLAIN,
    SIZE,
    Literal,
    literal_similarity,
    make,
    named,
    near,
    rows,
    unit,
    vectors_of,
)
from torch.nn import functional as F

from meloedit.keys.keys import Keys, KeyShape
from meloedit.keys.similarity import distances, same_keys, similarities, word_index
from meloedit.routing.index import SHORTLIST, NeuronIndex


def assert_agrees(index, literal, queries):
    found, several = index.search(queries), index.search(queries, 3)
    assert torch.equal(several.owner[:, :1], found.owner) and torch.equal(several.suppressed, found.suppressed)
    for i, query in enumerate(rows(queries)):
        free, suppressed, near = literal.search(query)
        for place, (distance, owner) in enumerate(free[:3]):
            # equally near edits but for rounding may change places
            tied = {other for away, other in free if away == distance or abs(away - distance) < 1e-5}
            found_owner = int(several.owner[i, place])
            assert found_owner in tied and (place or found_owner == owner)
            assert several.distance[i, place].item() == pytest.approx(distance, abs=1e-5)
        assert len({*several.owner[i].tolist()} - {-1}) == min(3, len(free) - 1)
        assert found.suppressed[i] == suppressed
        if suppressed >= 0:
            assert found.suppressed_distance[i].item() == pytest.approx(near, abs=1e-5)


def test_search_is_exact():
    keys, queries = unit(3000, 64), unit(500, 64, seed=1)
    index = NeuronIndex(KeyShape(64))
    for owner, part in enumerate(keys.split([3] * 1000)):
        index.add(owner, part)
    distances = torch.cdist(queries.content.double(), keys.content.double())
    found = index.search(queries)
    assert torch.equal(found.owner[:, 0], distances.argmin(1) // 3)
    assert torch.allclose(found.distance[:, 0].double(), distances.min(1).values, atol=1e-6)


def test_the_best_candidates_are_the_nearest_edits_each_once():
    keys, queries = unit(3000, 64), unit(50, 64, seed=1)
    index = NeuronIndex(KeyShape(64))
    for owner, part in enumerate(keys.split([3] * 1000)):
        index.add(owner, part)
    distances = torch.cdist(queries.content.double(), keys.content.double()).view(50, 1000, 3).min(2).values
    expected = distances.sort(1)
    found = index.search(queries, 5)
    assert torch.equal(found.owner, expected.indices[:, :5])
    assert torch.allclose(found.distance.double(), expected.values[:, :5], atol=1e-6)


def test_small_distances_survive_a_common_offset():
    # Keys that differ by 1e-4 around one direction: the expanded formula would lose all of it in float32.
    base, generators = vectors_of(1, 64), [torch.Generator().manual_seed(seed) for seed in (2, 3)]
    keys = F.normalize(base + 1e-4 * torch.randn(200, 64, generator=generators[0]), dim=1)
    queries = F.normalize(keys + 1e-5 * torch.randn(200, 64, generator=generators[1]), dim=1)
    index = NeuronIndex(KeyShape(64))
    for owner, key in enumerate(keys):
        index.add(owner, Keys.of_content(key[None]))
    distances = torch.cdist(queries.double(), keys.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found = index.search(Keys.of_content(queries))
    assert torch.equal(found.owner[:, 0], distances.argmin(1))
    assert torch.allclose(found.distance[:, 0].double(), distances.min(1).values, rtol=1e-2)


@pytest.mark.parametrize("twins", [2, 3 * SHORTLIST])
def test_of_equally_near_keys_the_newest_wins(twins):
    index, key = NeuronIndex(PLAIN), unit(1, SIZE)
    for owner in [5, 9, *range(10, 10 + twins), 2]:
        index.add(owner, key)
    assert index.search(key).owner.tolist() == [[9 + twins]]
    index.remove([9 + twins])
    assert index.search(key).owner.tolist() == [[8 + twins]]


@pytest.mark.parametrize("many", [1, 3 * SHORTLIST])
def test_quiet_keys_hush_their_own_edit_only(many):
    key, other = unit(2, SIZE).split([1, 1])
    quiet = near(key, unit(many, SIZE, seed=4))
    index = NeuronIndex(PLAIN)
    index.add(0, key, quiet=quiet)
    found = index.search(quiet[:1])
    assert (found.owner.tolist(), found.suppressed.tolist(), found.distance.tolist()) == ([[-1]], [0], [[math.inf]])
    assert index.search(key).owner.tolist() == [[0]]
    index.add(1, other)
    found = index.search(quiet[:1])
    assert (found.owner.tolist(), found.suppressed.tolist()) == ([[1]], [0])
    index.add(2, near(key, other, by=0.05))  # another edit nearby still fires
    found = index.search(quiet[:1])
    assert (found.owner.tolist(), found.suppressed.tolist()) == ([[2]], [0])
    assert found.suppressed_distance.item() < found.distance.item() < 0.2


def test_a_prompt_at_a_quiet_key_is_quiet_even_at_the_edits_own_distance():
    key = unit(1, SIZE)
    index = NeuronIndex(PLAIN)
    index.add(0, key, quiet=key)
    assert index.search(key).owner.tolist() == [[-1]]


def test_an_empty_index_finds_nothing():
    found = NeuronIndex(PLAIN).search(unit(3, SIZE), 2)
    assert found.owner.tolist() == [[-1, -1]] * 3 and found.suppressed.tolist() == [-1] * 3
    assert found.distance.tolist() == [[math.inf] * 2] * 3


# Few directions, so that keys tie, and quiet keys lie on edits' keys.
FEW = {
    PLAIN: Keys.of_content(torch.cat([torch.eye(4, SIZE), -torch.eye(2, SIZE), vectors_of(9, SIZE)])),
    NAMED: named(15, SIZE),
}
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


@pytest.mark.parametrize("shape", [PLAIN, NAMED], ids=["plain", "named"])
@settings(max_examples=40, deadline=None)
@given(stream=changes)
def test_any_stream_of_changes_keeps_the_promises(shape, stream):
    index, literal, prompts = NeuronIndex(shape), Literal(), make(shape, 40, seed=7)
    rate, floor = 0.1, -1.0
    index.set_scope(prompts, rate, floor)
    cache = None
    for change, *values in stream:
        if change == "add":
            owner, keys, quiet = values[0], FEW[shape][values[1]], FEW[shape][values[2]]
            if cache and owner in cache.owners:  # the number of a store's record never stands for other keys
                cache = None
            index.add(owner, keys, quiet)
            literal.edits[owner] = (keys, quiet)
        elif change == "remove":
            index.remove(values[0])
            for owner in values[0]:
                literal.edits.pop(owner, None)
        elif change == "keep":
            cache = index.nearest_cache
        elif change == "open":  # as a store is opened: with the cache of an earlier time, and other edits since
            index = NeuronIndex(shape)
            for owner, own in literal.edits.items():
                index.add(owner, *own)
            index.set_scope(prompts, rate, floor, cache=cache)
        else:
            rate, floor = values
            index.set_scope(prompts, rate, floor)
        assert len(index) == len(literal.edits)
        assert index.similarity == pytest.approx(literal.similarity(prompts, rate, floor), abs=1e-6)
        assert_agrees(index, literal, Keys.cat([FEW[shape], prompts[:5]]))


def test_similarities_are_the_literal_ones_whichever_way_they_are_computed():
    queries, keys = named(50, SIZE, seed=3), named(70, SIZE, seed=5)
    expected = torch.tensor([[literal_similarity(query, key) for key in rows(keys)] for query in rows(queries)])
    words, names = word_index(queries, names=False), word_index(keys, names=True)
    for mentions in (names.mentioned_by(queries), words.mentions(keys)):
        assert torch.allclose(similarities(queries, keys, mentions), expected, atol=1e-6)
    found = distances(queries, keys.expand(50))
    assert torch.allclose(1 - found.square() / 2, expected, atol=1e-5)
    assert torch.equal(distances(keys, keys[:, None])[:, 0], torch.zeros(70))  # each its own nearest
    assert expected.std() > 0.1 and (expected.argmax(1) != (queries.content @ keys.content.T).argmax(1)).any()


def test_keys_are_the_same_where_words_and_vectors_are():
    keys = named(9, SIZE)
    moved = Keys(keys.content + 1e-5, keys.relation, keys.word_codes, keys.word_shares)
    assert same_keys(keys, moved, 1e-3) and not same_keys(keys[:0], moved, 1e-3)
    assert not same_keys(keys, Keys(keys.content + 0.01, *list(keys)[1:]), 1e-3)
    assert not same_keys(keys, Keys(keys.content, keys.relation, keys.word_codes + 1, keys.word_shares), 1e-3)


# -- scope


def test_the_scope_is_the_literal_quantile():
    prompts, keys = unit(100, SIZE), unit(3, SIZE, seed=1)
    index = NeuronIndex(PLAIN)
    index.set_scope(prompts, 0.05, 0.0)
    for owner, key in enumerate(rows(keys)):
        index.add(owner, key)
    best = (prompts.content @ keys.content.T).max(1).values.sort().values
    assert index.similarity == pytest.approx(best[95].item(), abs=1e-6)  # the ceil(101 * 0.95) = 96th smallest
    assert index.threshold == pytest.approx(math.sqrt(2 - 2 * best[95].item()), abs=1e-6)
    assert (best > index.similarity).sum() == 4
    index.set_scope(prompts, 0.05, 0.99)
    assert index.similarity == 0.99


def test_calibration_prompts_that_ask_an_edit_do_not_count_against_it():
    prompts, key = unit(100, SIZE), unit(1, SIZE, seed=1)
    index = NeuronIndex(PLAIN)
    index.add(0, key)
    index.set_scope(prompts, 0.05, 0.0)
    alone = index.similarity
    asked = Keys.cat([prompts, *[key] * 40])
    index.set_scope(asked, 0.05, 0.0)
    assert index.similarity == alone
    index.remove([0])
    index.add(1, prompts[:1])
    best = (asked[1:].content @ prompts.content[0]).sort().values
    assert index.similarity == pytest.approx(best[132].item(), abs=1e-6)  # the ceil(140 * 0.95) = 133rd smallest


@pytest.mark.parametrize(("count", "fires"), [(18, False), (19, True)])
def test_too_few_prompts_for_the_rate_let_nothing_fire(count, fires):
    index = NeuronIndex(PLAIN)
    index.add(0, unit(1, SIZE))
    index.set_scope(unit(count, SIZE, seed=3), 0.05, 0.0)
    assert (index.search(unit(1, SIZE)).distance.item() < index.threshold) == fires


def test_neighbours():
    rows_of_three = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.5, 0], [0, 0, 1]]), dim=1)
    a, b, c = rows(Keys.of_content(rows_of_three))
    index = NeuronIndex(KeyShape(3))
    index.set_scope(Keys.empty(KeyShape(3)), 0.5, 0.8)
    index.add(3, a)
    assert index.neighbours(3) == (-1, math.inf, [])
    index.add(4, Keys.cat([c, b]), quiet=a)
    index.add(5, c)
    assert index.neighbours(3) == (4, pytest.approx((a.content - b.content).norm().item()), [4])
    assert index.neighbours(5) == (4, 0.0, [4])
    assert sorted(index.neighbours(4)[2]) == [3, 5]
    index.remove([4])
    assert index.neighbours(3) == (5, pytest.approx(math.sqrt(2)), [])


def test_a_kept_cache_does_not_follow_later_changes():
    index, prompts, keys = NeuronIndex(PLAIN), vectors_of(9, SIZE), vectors_of(3, SIZE, seed=4)
    prompts, keys = Keys.of_content(prompts), Keys.of_content(keys)
    index.set_scope(prompts, 0.5, -1.0)
    index.add(1, keys[:1])
    cache = index.nearest_cache
    index.add(2, keys[1:])
    again = NeuronIndex(PLAIN)
    again.add(1, keys[:1])
    again.set_scope(prompts, 0.5, -1.0, cache=cache)
    index.remove([2])
    assert again.similarity == index.similarity


@pytest.mark.slow
def test_a_quiet_prompt_that_ten_thousand_edits_share_is_searched_in_a_second_or_so():
    generator, count = torch.Generator().manual_seed(0), 10_000
    own = Keys.of_content(torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=1))
    shared = Keys.of_content(torch.nn.functional.normalize(torch.randn(1, 64, generator=generator), dim=1))
    index = NeuronIndex(own.shape)
    both = Keys(*(torch.stack([a, b.expand(count, *b.shape[1:])], 1) for a, b in zip(own, shared, strict=True)))
    index.add_all(range(count), both, torch.tensor([[False, True]] * count), count)
    began = time.process_time()
    found = index.search(shared, 4)
    assert time.process_time() - began < 3  # it took nine seconds by a table of pairs
    assert found.owner.tolist() == [[-1] * 4] and found.suppressed[0] >= 0 and found.quiet_distance[0] == 0
    assert index.search(own[:1], 4).owner[0, 0] == 0
