"""The rules of the clusters by hand, the quirks of the released code, state, and bad input."""

import math

import numpy as np
import pytest
import torch
from support.cluster_oracle import found, restored, snapshot

from meloedit.errors import MeloEditError
from meloedit.paper.clusters import ClusterIndex


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
