import math
import random
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meloedit.errors import MeloEditError
from meloedit.paper import clusters
from meloedit.paper.clusters import ClusterIndex

# -- the oracle: the rules read aloud, in plain lists. Vectors are tuples of floats, numbers numpy's float32.


def total(values):
    """Sum by adding the second half to the first: the order of summing that the index promises."""
    while len(values) > 1:
        half = (len(values) + 1) // 2
        values = [values[i] + values[i + half] if i + half < len(values) else values[i] for i in range(half)]
    return values[0]


@lru_cache(maxsize=200_000)
def distance(a, b):
    gaps = [np.float32(x) - np.float32(y) for x, y in zip(a, b, strict=True)]
    return np.sqrt(total([gap * gap for gap in gaps]))


def mean(vectors):
    return tuple(
        float(total([np.float32(x) for x in column]) / np.float32(len(vectors)))
        for column in zip(*vectors, strict=True)
    )


class Point:
    """A key with its owner and its block."""

    def __init__(self, vector, owner, block):
        self.vector, self.owner, self.block = vector, owner, block


class Group:
    """A cluster."""

    def __init__(self, number, label, centre, radius, points):
        self.number, self.label, self.centre, self.points = number, label, centre, points
        self.radius = self.floor = radius


class Oracle:
    """The paper's rules as DESIGN.md states them."""

    def __init__(self, radius, expand):
        self.initial, self.expand = np.float32(radius), expand
        self.groups, self.lost, self.born, self.conflicts, self.missed = [], [], 0, 0, 0
        self.seen = Counter()

    # ties

    def nearer(self, d, best):
        """Of equally near ones the newest, which comes last."""
        return d <= best

    def nearest(self, vector, things, where):
        found, best = None, np.float32(math.inf)
        for thing in things:
            d = distance(vector, where(thing))
            if self.nearer(d, best):
                found, best = thing, d
        return found, best

    def nearest_group(self, vector):
        return self.nearest(vector, self.groups, lambda group: group.centre)

    # insertion

    def insert_batch(self, rows):
        for owner, block, vector, label in rows:
            self.insert(Point(vector, owner, block), label, *self.nearest_group(vector))

    def insert(self, point, label, group, d):
        if group is None or d > group.radius + self.initial:
            self.add(point, label, self.initial)
        elif group.label == label:
            self.expand_group(group, point, d)
        else:
            self.conflict(group, point, label, d)

    def add(self, point, label, radius):
        self.seen["add"] += 1
        self.groups.append(Group(self.born, label, point.vector, radius, [point]))
        self.born += 1

    def expand_group(self, group, point, d):
        self.seen["expand"] += 1
        group.points.append(point)
        if self.expand == "reference":
            self.average(group)
        elif d > group.radius:
            self.seen["grown"] += 1
            group.radius = d

    def average(self, group):
        group.centre = mean([point.vector for point in group.points])
        group.radius = max(self.initial, max(distance(point.vector, group.centre) for point in group.points))

    def halves(self, d):
        half = d / np.float32(2)
        return np.nextafter(half, np.float32(-math.inf)), half

    def conflict(self, group, point, label, d):
        self.conflicts += 1
        self.seen["conflict"] += 1
        self.seen["same prompt"] += d == 0
        old, new = self.halves(d)
        self.seen["radius enlarged by a conflict"] += old > group.radius
        group.radius = group.floor = old
        stay = [p for p in group.points if distance(p.vector, group.centre) <= old]
        gone = [p for p in group.points if distance(p.vector, group.centre) > old]
        self.seen["forgotten"] += len(gone)
        self.seen["partly forgotten"] += bool(gone and stay)
        self.lost += [p.owner for p in gone]
        self.missed += len(gone)
        group.points = stay
        if not stay:
            self.emptied(group)
        self.add(point, label, new)

    def emptied(self, group):
        self.seen["dropped"] += 1
        self.groups.remove(group)

    # removal

    def remove(self, owners):
        for group in list(self.groups):
            stay = [p for p in group.points if p.owner not in owners or p.owner < 0]
            if len(stay) == len(group.points):
                continue
            self.seen["removed"] += 1
            group.points = stay
            if all(p.owner < 0 for p in stay):
                self.groups.remove(group)
            elif self.expand == "reference":
                self.average(group)
            else:
                self.seen["founder removed"] += group.centre != stay[0].vector
                self.replay(group)

    def replay(self, group):
        """Start from the oldest key and let the others join again."""
        group.centre, group.radius = group.points[0].vector, group.floor
        for point in group.points:
            d = distance(point.vector, group.centre)
            if d > group.radius:
                group.radius = d

    # search

    def search(self, vector):
        group, d = self.nearest_group(vector)
        if group is None:
            return -1, -1, -1, math.inf, 0.0
        point, _ = self.nearest(vector, group.points, lambda point: point.vector)
        self.seen["on the boundary"] += d == group.radius
        self.seen["inside"] += d <= group.radius
        block = point.block if d <= group.radius else -1
        return block, point.owner, group.number, float(d), float(group.radius)

    def snapshot(self):
        groups = [
            (g.number, g.label, list(g.centre), float(g.radius), float(g.floor),
             [(list(p.vector), p.owner, p.block) for p in g.points])
            for g in self.groups
        ]  # fmt: skip
        owners = [p.owner for g in self.groups for p in g.points if p.owner >= 0]
        counts = {
            "clusters": len(groups), "keys": len(owners), "conflicts": self.conflicts, "forgotten": self.missed
        }  # fmt: skip
        return groups, counts, self.lost, set(owners)


class Reference(Oracle):
    """The released code (peft/tuners/melo.py): a table of clusters, searched once for each batch."""

    def nearer(self, d, best):
        """`min` over the table keeps the first of equal ones."""
        return d < best

    def insert_batch(self, rows):
        if not self.groups:
            for owner, block, vector, label in rows:
                self.add(Point(vector, owner, block), label, self.initial)
            return
        found = [self.nearest_group(vector) for _, _, vector, _ in rows]
        for (owner, block, vector, label), (group, d) in zip(rows, found, strict=True):
            self.insert(Point(vector, owner, block), label, group, d)

    def halves(self, d):
        return d / np.float32(2) - np.float32(1e-5), d / np.float32(2) + np.float32(1e-5)

    def emptied(self, group):
        self.seen["placeholder"] += 1
        group.points = [Point(group.centre, -1, -1)]
        self.missed -= 1


# -- the comparison


def snapshot(index):
    tensors, values = index.state()
    column = {name: tensor.tolist() for name, tensor in tensors.items()}
    points = {number: [] for number in column["cluster.number"]}
    for number, *point in zip(
        column["key.cluster"], column["key.key"], column["key.owner"], column["key.block"], strict=True
    ):
        points[number].append(tuple(point))
    groups = list(
        zip(
            column["cluster.number"],
            values["labels"],
            column["cluster.centre"],
            column["cluster.radius"],
            column["cluster.floor"],
            points.values(),
            strict=True,
        )  # fmt: skip
    )
    return groups, index.counts, index.forgotten, index.owners


def found(index, vectors):
    hits = index.search(torch.tensor(vectors))
    columns = (hits.block, hits.owner, hits.cluster, hits.distance, hits.radius)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def restored(tensors, values):
    """Return an index that holds what ``state`` returned."""
    index = ClusterIndex(**values["settings"])
    for kind, table in (("cluster", index._clusters), ("key", index._keys)):
        table.update({name: tensors[f"{kind}.{name}"].clone() for name in table})
    index._labels = dict(zip(tensors["cluster.number"].tolist(), values["labels"], strict=True))
    index.forgotten, index._tally = list(values["forgotten"]), dict(values["tally"])
    return index


def check(index, oracle, queries):
    assert snapshot(index) == oracle.snapshot()
    assert found(index, queries) == [oracle.search(query) for query in queries]


def apply(index, oracle, operation):
    """Do one operation on both; an addition is a batch of rows, a removal a set of owners."""
    kind, what = operation
    if kind == "remove":
        index.remove(what)
        oracle.remove(what)
    elif kind == "add":
        before = len(oracle.lost)
        owners, blocks, vectors, labels = zip(*what, strict=True)
        lost = index.add_batch(owners, blocks, torch.tensor(vectors), labels)
        oracle.insert_batch(what)
        assert lost == oracle.lost[before:]


def pair(size, radius, expand, quirks):
    index = ClusterIndex(size, radius, expand, quirks=quirks)
    return index, (Reference if quirks else Oracle)(radius, expand)


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


def test_ten_thousand_streams_equal_the_oracle():
    seen = Counter()
    for seed in range(10_000):
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
    for seed in range(1_000):
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


# -- the arithmetic


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


# -- the rules, by hand


def line(rows, radius=1.0, expand="paper", quirks=False):
    """An index over the number line of (position, label); row i belongs to owner i and block 10 + i."""
    index = ClusterIndex(1, radius, expand, quirks=quirks)
    for i, (position, label) in enumerate(rows):
        index.add(i, 10 + i, torch.tensor([float(position)]), label)
    return index


def shape(index):
    """(centre, radius, owners) of each cluster."""
    return [(centre[0], radius, [p[1] for p in points]) for _, _, centre, radius, _, points in snapshot(index)[0]]


def block(index, position):
    return index.search(torch.tensor([[float(position)]])).block.item()


def below(x):
    return float(np.nextafter(np.float32(x), np.float32(-1)))


def above(x):
    return float(np.nextafter(np.float32(x), np.float32(math.inf)))


def test_add_beyond_both_radii():
    assert shape(line([(0, "a"), (above(2), "a")])) == [(0, 1, [0]), (above(2), 1, [1])]


@pytest.mark.parametrize("expand", ["paper", "reference"])
def test_a_key_at_exactly_both_radii_does_not_add(expand):
    assert len(shape(line([(0, "a"), (2, "a")], expand=expand))) == 1


def test_expand_as_in_the_paper():
    assert shape(line([(0, "a"), (0.5, "a")])) == [(0, 1, [0, 1])]
    assert shape(line([(0, "a"), (1.5, "a"), (1, "a")])) == [(0, 1.5, [0, 1, 2])]


def test_expand_as_in_the_reference():
    assert shape(line([(0, "a"), (1.5, "a")], expand="reference")) == [(0.75, 1, [0, 1])]
    assert shape(line([(0, "a"), (2, "a"), (2.5, "a")], expand="reference")) == [(1.5, 1.5, [0, 1, 2])]


def test_conflict_halves_the_distance_and_forgets():
    index = line([(0, "a"), (0.875, "a"), (1.5, "b")])
    assert shape(index) == [(0, below(0.75), [0]), (1.5, 0.75, [2])]
    assert index.counts == {"clusters": 2, "keys": 2, "conflicts": 1, "forgotten": 1}
    assert (index.forgotten, index.owners) == ([1], {0, 2})
    assert [block(index, x) for x in (0.625, below(0.75), 0.75, 0.875)] == [10, 10, 12, 12]


def test_a_cluster_about_a_mean_can_lose_all_its_keys_to_a_conflict():
    index = line([(0, "a"), (2, "a"), (1.5, "b")], expand="reference")
    assert shape(index) == [(1.5, 0.25, [2])]
    assert (index.counts["forgotten"], index.forgotten) == (2, [0, 1])
    assert block(index, 0) == -1


def test_a_conflict_can_enlarge_the_old_radius():
    index = line([(0, "a"), (0.5, "b"), (-1.125, "c")])
    assert shape(index) == [(0, below(0.5625), [0]), (0.5, 0.25, [1]), (-1.125, 0.5625, [2])]


def test_a_new_target_for_the_same_prompt_prevails():
    index = line([(0, "a"), (0.5, "a"), (0, "b")])
    assert shape(index) == [(0, 0, [2])]
    assert (index.forgotten, index.counts["conflicts"]) == ([0, 1], 1)
    assert [block(index, x) for x in (0, 1e-6, 0.5)] == [12, -1, -1]
    index.add(3, 13, torch.tensor([0.5]), "b")  # another wording of it: the new edit reaches as far again
    assert shape(index) == [(0, 0.5, [2, 3])]


def test_search_takes_the_newest_of_equally_near_clusters_and_keys():
    clusters_tie = line([(0, "a"), (4, "b")], radius=2.0)  # conflict at 4: radii 2 and just below
    assert (block(clusters_tie, 2), block(clusters_tie, below(2))) == (11, 10)
    keys_tie = line([(0, "a"), (1, "a"), (0, "a")])
    assert [block(keys_tie, x) for x in (0, 0.5, 1)] == [12, 12, 11]


def test_search_names_the_nearest_edit_also_where_no_block_answers():
    hits = line([(0, "a"), (0.5, "a")]).search(torch.tensor([[9.0], [0.25], [math.nan], [math.inf]]))
    assert hits.block.tolist() == [-1, 11, -1, -1]
    assert hits.owner.tolist() == [1, 1, -1, -1]
    assert hits.cluster.tolist() == [0, 0, -1, -1]
    assert hits.distance.tolist() == [9, 0.25, math.inf, math.inf]
    assert hits.radius.tolist() == [1, 1, 0, 0]


def test_search_of_an_empty_index_and_of_no_queries():
    assert found(ClusterIndex(2, 1.0), [(0.0, 0.0)]) == [(-1, -1, -1, math.inf, 0.0)]
    assert len(line([(0, "a")]).search(torch.zeros(0, 1)).block) == 0
    assert len(ClusterIndex(2, 1.0).search(torch.zeros(0, 2)).block) == 0


def test_removal_makes_the_rest_again_as_in_the_paper():
    rows = [(0, "a"), (1.5, "a"), (0.5, "a"), (9, "b")]
    for gone, rest in [(2, (0, 1.5, [0, 1])), (1, (0, 1, [0, 2])), (0, (1.5, 1, [1, 2]))]:
        index = line(rows)
        index.remove([gone, 77])
        assert shape(index) == [rest, (9, 1, [3])]
    index.remove([1, 2])
    assert shape(index) == [(9, 1, [3])]
    index.remove([3])
    assert shape(index) == [] and index.counts == {"clusters": 0, "keys": 0, "conflicts": 0, "forgotten": 0}


def test_removal_makes_the_rest_again_as_in_the_reference():
    index = line([(0, "a"), (1, "a"), (2, "a"), (2.5, "a")], expand="reference")
    assert shape(index) == [(1.375, 1.375, [0, 1, 2, 3])]
    index.remove([0])
    assert shape(index) == [(float(np.float32(5.5) / np.float32(3)), 1, [1, 2, 3])]


def test_what_a_conflict_took_does_not_come_back():
    rows = [(0, "a"), (0.875, "a"), (0.25, "a"), (1.5, "b")]
    index = line(rows)
    index.remove([3])
    assert shape(index) == [(0, below(0.75), [0, 2])] and index.forgotten == [1]
    index.remove([2])  # the cluster is made again, from the radius that the conflict gave
    assert shape(index) == [(0, below(0.75), [0])]
    index.remove([1])  # forgotten already
    assert index.counts == {"clusters": 1, "keys": 1, "conflicts": 1, "forgotten": 1}


def test_a_shared_block_stays_while_a_key_points_to_it():
    index = ClusterIndex(1, 1.0)
    index.add_batch([0, 1], [5, 5], torch.tensor([[0.0], [8.0]]), ["a", "b"])
    index.remove([0])
    assert (block(index, 0), block(index, 8)) == (-1, 5)


def test_statistics_describe_the_clusters():
    index = line([(0, "a"), (1.5, "a"), (9, "b")])
    assert index.statistics() == {"label": ["a", "b"], "radius": [1.5, 1.0], "keys": [2, 1]}


# -- the quirks, by hand


def batch(index, rows):
    first = index.counts["keys"]
    numbers = range(first, first + len(rows))
    return index.add_batch(numbers, numbers, torch.tensor([[float(x)] for x, _ in rows]), [y for _, y in rows])


def test_quirk_first_batch_is_unchecked_and_rows_of_a_batch_do_not_see_each_other():
    index = ClusterIndex(1, 1.0, "reference", quirks=True)
    batch(index, [(0, "a"), (0, "a"), (0, "b")])
    assert shape(index) == [(0, 1, [0]), (0, 1, [1]), (0, 1, [2])]
    batch(index, [(9, "a"), (9, "b")])
    assert shape(index)[3:] == [(9, 1, [3]), (9, 1, [4])]


def test_quirk_distances_are_those_before_the_batch():
    index = ClusterIndex(1, 1.0, "reference", quirks=True)
    batch(index, [(0, "a")])
    batch(index, [(2, "a"), (2, "b")])  # the second row still measures 2 to the old centre 0, not 1 to the new one 1
    tiny = np.float32(1e-5)
    assert shape(index) == [(1, float(1 - tiny), [-1]), (2, float(1 + tiny), [2])]
    assert (index.forgotten, index.counts["forgotten"]) == ([0, 1], 1)


def test_quirk_same_prompt_with_a_new_target_answers_nothing():
    index = line([(0, "a"), (0, "b")], expand="reference", quirks=True)
    assert [radius for _, radius, _ in shape(index)] == [float(-np.float32(1e-5)), float(np.float32(1e-5))]
    assert block(index, 0) == -1  # the oldest of equally near clusters, which nothing can enter


def test_quirk_emptied_cluster_keeps_a_point_and_is_undercounted():
    index = line([(0, "a"), (2, "a"), (1.5, "b")], expand="reference", quirks=True)
    assert [owners for _, _, owners in shape(index)] == [[-1], [2]]
    assert index.counts == {"clusters": 2, "keys": 1, "conflicts": 1, "forgotten": 1}
    assert (index.forgotten, index.owners) == ([0, 1], {2})
    assert index.search(torch.tensor([[1.0]])).cluster.item() == 0 and block(index, 1) == -1
    index.remove([-1])
    assert index.counts["clusters"] == 2  # the point is nobody's
    index.add(3, 13, torch.tensor([0.0]), "a")
    index.remove([3])
    assert shape(index) == [shape(index)[-1]] and index.owners == {2}


# -- state and bad input


def test_state_is_a_copy_and_keeps_labels_as_they_are():
    labels = ["x", 3, None, True, ("a", (1, 2.5))]
    index = line([(10 * i, label) for i, label in enumerate(labels)])
    tensors, values = index.state()
    before = snapshot(index)
    for tensor in tensors.values():
        tensor.fill_(7)
    values["forgotten"].append(1)
    values["tally"]["born"] = values["settings"]["radius"] = 0
    assert snapshot(index) == before == snapshot(restored(*index.state()))
    again = restored(*index.state())
    again.add(9, 9, torch.tensor([40.0]), ("a", (1, 2.5)))
    assert again.statistics()["label"] == labels and again.statistics()["keys"] == [1, 1, 1, 1, 2]


def test_keys_of_other_types_become_float32_and_are_copied():
    index = ClusterIndex(2, 1.0)
    key = torch.tensor([1.0, 2.0], requires_grad=True)
    index.add(0, 0, key, "a")
    index.add(1, 1, torch.tensor([1.0, 2.5], dtype=torch.bfloat16), "a")
    with torch.no_grad():
        key.fill_(50)
    assert found(index, [(1.0, 2.0)]) == [(0, 0, 0, 0.0, 1.0)]
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in index.state()[0].values())


@pytest.mark.parametrize("radius", [0, -1, math.nan, math.inf, 1e-60, 1e60])
def test_a_radius_that_is_not_positive_is_refused(radius):
    with pytest.raises(MeloEditError, match="cluster radius"):
        ClusterIndex(3, radius)


def test_bad_settings_are_refused():
    with pytest.raises(MeloEditError, match="key size"):
        ClusterIndex(0, 1.0)
    with pytest.raises(MeloEditError, match="'paper' or 'reference', not 'mean'"):
        ClusterIndex(3, 1.0, "mean")


@pytest.mark.parametrize(
    ("owners", "blocks", "keys", "labels", "message"),
    [
        ([0], [0], torch.zeros(1, 3), ["a"], "a key of 2 numbers"),
        ([0, 1], [0], torch.zeros(2, 2), ["a", "b"], "each row needs an owner, a block"),
        ([0, 1], [0, 0], torch.tensor([[0.0, 0.0], [math.nan, 0.0]]), ["a", "b"], "finite"),
        ([0], [0], torch.tensor([[1e300, 0.0]], dtype=torch.float64), ["a"], "finite"),
        ([-1], [0], torch.zeros(1, 2), ["a"], "numbered from 0"),
        ([0], [-100], torch.zeros(1, 2), ["a"], "numbered from 0"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_inserted(owners, blocks, keys, labels, message):
    index = ClusterIndex(2, 1.0)
    with pytest.raises(MeloEditError, match=message):
        index.add_batch(owners, blocks, keys, labels)
    assert index.counts["keys"] == 0
