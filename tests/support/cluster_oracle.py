"""The rules of the clusters in plain lists, which the index must equal.

Vectors are tuples of floats, numbers are numpy's float32.
"""

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import torch

from meloedit.paper.clusters import ClusterIndex


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
