"""The cluster index against a literal oracle, on streams of additions and removals, and its arithmetic."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cluster_oracle import apply, check, pair, restored, snapshot

from meloedit.paper import clusters
from meloedit.paper.clusters import ClusterIndex


def grid_stream(random_, seen, length, quirks=False):
    """Compare both on a short stream with coordinates on a small grid: ties, repeats and boundaries are frequent."""
    size, radius = random_.choice((1, 1, 2, 2, 3)), random_.choice((0.5, 1.0, 1.5, 2.0, 0.7))
    index, oracle = pair(size, radius, random_.choice(("paper", "reference")), quirks)
    width = {1: 9, 2: 4, 3: 2}[size]
    point = lambda step: tuple(random_.randint(0, int(width / step)) * step for _ in range(size))  # noqa: E731
    owner = 0
    for block in range(length):
        if owner and random_.random() < 0.3:
            operation = ("remove", [random_.randrange(owner + 1) for _ in range(random_.choice((1, 1, 2)))])
        else:
            rows = []
            for _ in range(random_.choice((1, 1, 2) if block else (2, 3, 4))):
                owner += random_.random() < 0.8  # else another key of the same edit
                rows.append((owner, block, point(random_.choice((1.0, 1.0, 0.5))), random_.choice("aabc")))
            operation = ("add", rows)
        apply(index, oracle, operation)
        check(index, oracle, [point(0.25) if i < 3 else point(0.5) for i in range(6)])
    if random_.random() < 0.1:
        assert snapshot(restored(*index.state())) == oracle.snapshot()
    seen += oracle.seen


RULES = [
    "add", "expand", "grown", "conflict", "same prompt", "radius enlarged by a conflict", "forgotten",
    "partly forgotten", "dropped", "removed", "founder removed", "on the boundary", "inside",
]  # fmt: skip


@pytest.mark.parametrize(
    "seeds", [range(4_500), pytest.param(range(4_500, 10_000), marks=pytest.mark.slow)], ids=["4,500", "5,500 more"]
)
def test_thousands_of_short_streams_equal_the_oracle(seeds):
    """As many as it takes to see every rule, also the rarest, fifty times."""
    seen = Counter()
    for seed in seeds:
        random_ = random.Random(seed)
        grid_stream(random_, seen, random_.choice((2, 2, 3)))
    assert all(seen[rule] >= 50 for rule in RULES), seen


@pytest.mark.parametrize("quirks", [False, True])
def test_long_streams_equal_the_oracle(quirks):
    seen = Counter()
    for seed in range(80):
        grid_stream(random.Random(seed), seen, 25, quirks)


def test_quirks_equal_the_literal_reference():
    seen = Counter()
    for seed in range(500):  # as many as it takes to see every rule twenty times
        random_ = random.Random(seed)
        grid_stream(random_, seen, random_.choice((3, 5)), quirks=True)
    rules = [rule for rule in RULES if rule not in ("dropped", "founder removed")]
    assert all(seen[rule] >= 20 for rule in [*rules, "placeholder"]), seen


whole = st.integers(0, 4).map(float)


@st.composite
def streams(draw):
    size = draw(st.integers(1, 3))
    vector = st.tuples(*[whole] * size)
    row = st.tuples(st.integers(0, 6), st.integers(0, 3), vector, st.sampled_from(["a", "b", 3, ("c", 1)]))
    addition = st.tuples(st.just("add"), st.lists(row, min_size=1, max_size=4))
    removal = st.tuples(st.just("remove"), st.lists(st.integers(0, 8), max_size=3))
    operations = draw(st.lists(st.one_of(addition, addition, removal), min_size=1, max_size=12))
    queries = draw(st.lists(st.tuples(*[whole.map(lambda x: x / 2)] * size), min_size=1, max_size=5))
    radius = draw(st.sampled_from([0.25, 0.5, 1.0, 1.2, 3.0]))
    return size, radius, draw(st.sampled_from(["paper", "reference"])), draw(st.booleans()), operations, queries


@settings(max_examples=300, deadline=None)
@given(streams())
def test_any_stream_equals_the_oracle_and_goes_on_after_a_round_trip(stream):
    size, radius, expand, quirks, operations, queries = stream
    index, oracle = pair(size, radius, expand, quirks)
    for operation in operations:
        apply(index, oracle, operation)
        check(index, oracle, queries)
        index = restored(*index.state())


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("expand", ["paper", "reference"])
@pytest.mark.parametrize(("size", "common"), [(5, 0.0), (64, 0.0), (97, 900.0)])
def test_continuous_streams_equal_the_oracle(size, common, expand, quirks):
    """Keys about a few prompts, as a model gives them; with massive activations 900, -400, 300 in three dimensions."""
    for seed in range(6):
        random_ = np.random.default_rng(seed)
        offset = np.zeros(size)
        offset[:3] = common, common * -4 / 9, common / 3
        prompts = random_.normal(size=(5, size)) + offset
        draw = lambda: tuple(  # noqa: E731
            (prompts[random_.integers(5)] + random_.normal(size=size) * random_.choice((0, 0.1, 0.7)))  # noqa: B023
            .astype(np.float32)
            .tolist()
        )
        index, oracle = pair(size, float(random_.choice((0.3, 0.8))) * math.sqrt(size), expand, quirks)
        for step in range(25):
            if step % 4 == 3:
                operation = ("remove", [int(owner) for owner in random_.integers(0, 2 * step, 2)])
            else:
                rows = [(2 * step + i, step, draw(), "ab"[random_.integers(2)]) for i in range(random_.integers(1, 4))]
                operation = ("add", rows)
            apply(index, oracle, operation)
            check(index, oracle, [draw() for _ in range(4)])


@pytest.mark.parametrize("common", [0.0, 900.0])
def test_the_shortlist_never_loses_the_nearest_centre(common, monkeypatch):
    """Near ties by the thousand, where the expanded square in float32 errs more than the centres differ."""
    generator = torch.Generator().manual_seed(0)
    offset = torch.zeros(300)
    offset[:3] = torch.tensor([common, common * -4 / 9, common / 3])
    centres = torch.randn(40, 300, generator=generator).repeat(25, 1)
    centres = centres + offset + torch.randint(-2, 3, (1000, 300), generator=generator) * 2.0**-14
    index = ClusterIndex(300, 1e-6)
    tensors, values = index.state()
    tensors |= {"cluster.number": torch.arange(1000), "cluster.centre": centres, "cluster.radius": torch.ones(1000)}
    tensors |= {"cluster.floor": torch.ones(1000), "key.key": centres, "key.cluster": torch.arange(1000)}
    tensors |= {"key.owner": torch.arange(1000), "key.block": torch.arange(1000)}
    index = restored(tensors, values | {"labels": list(range(1000))})
    queries = torch.cat([centres[::10], centres[::10] + 0.01 * torch.randn(100, 300, generator=generator)])
    gaps = ((queries[:, None] - centres) ** 2).numpy()  # (200, 1000, 300)
    while gaps.shape[2] > 1:
        half = (gaps.shape[2] + 1) // 2
        gaps = np.concatenate(
            [gaps[..., : gaps.shape[2] - half] + gaps[..., half:], gaps[..., gaps.shape[2] - half : half]], 2
        )
    distances = np.sqrt(gaps[..., 0])
    nearest = 999 - distances[:, ::-1].argmin(1)
    for piece in (clusters.PIECE, 1000):  # in one piece, and in many
        monkeypatch.setattr(clusters, "PIECE", piece)
        hits = index.search(queries)
        assert hits.cluster.tolist() == hits.block.tolist() == nearest.tolist()
        assert hits.distance.tolist() == distances.min(1).tolist()


def test_a_distance_has_the_same_bits_in_every_batch():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(200, 101, generator=generator)
    index = ClusterIndex(101, 3.0)
    index.add_batch(range(200), range(200), keys, range(200))
    queries = torch.randn(65, 101, generator=generator)
    together = index.search(queries)
    for i in range(65):
        alone = index.search(queries[i : i + 1])
        assert all(torch.equal(getattr(together, name)[i : i + 1], getattr(alone, name)) for name in vars(alone))


def test_a_batch_is_the_same_as_its_rows_one_by_one():
    rows = [(i, i % 3, torch.tensor([float(i * i % 7)]), "ab"[i % 2]) for i in range(12)]
    one, other = ClusterIndex(1, 1.0), ClusterIndex(1, 1.0)
    lost = [owner for row in rows for owner in one.add(*row)]
    owners, blocks, keys, labels = zip(*rows, strict=True)
    assert lost == other.add_batch(owners, blocks, torch.stack(keys), labels)
    assert snapshot(one) == snapshot(other)
