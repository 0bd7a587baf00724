"""GRACE's codebook on examples worked by hand, after the rules of its paper and its authors' code."""

import pytest
import torch

from meloedit.methods.memory.codebook import Codebook


def book():
    return Codebook.empty(2, 3, torch.device("cpu"))


def choose(codebook, key, label, expand="coverage", eps=1.0):
    return codebook.choose(torch.tensor(key), label, torch.full((3,), float(len(codebook.keys))), eps, expand)


def test_the_first_key_is_added():
    codebook = book()
    assert choose(codebook, [0.0, 0.0], 5.0) == 0
    assert codebook.radii.tolist() == [1.0] and codebook.keys.tolist() == [[0.0, 0.0]]


def test_add_beyond_both_radii():
    codebook = book()
    choose(codebook, [0.0, 0.0], 5.0)
    assert choose(codebook, [3.0, 0.0], 5.0) == 1  # 3 > 1 + 1, whatever the label
    assert codebook.radii.tolist() == [1.0, 1.0]


def test_expand_grows_to_the_distance_and_adds_no_key():
    codebook = book()
    choose(codebook, [0.0, 0.0], 5.0)
    assert choose(codebook, [0.0, 1.5], 5.0) == 0  # 1 < 1.5 <= 2, same label
    assert codebook.radii.tolist() == [1.5] and len(codebook.keys) == 1
    assert choose(codebook, [0.0, 0.5], 5.0) == 0  # inside: nothing changes
    assert codebook.radii.tolist() == [1.5]


def test_moving_average_moves_the_key_half_way():
    codebook = book()
    choose(codebook, [0.0, 0.0], 5.0)
    choose(codebook, [0.0, 1.6], 5.0, expand="moving_average")
    assert codebook.keys.tolist() == [[0.0, pytest.approx(0.8)]] and codebook.radii.tolist() == [pytest.approx(1.6)]


def test_split_halves_both_radii():
    codebook = book()
    choose(codebook, [0.0, 0.0], 5.0)
    assert choose(codebook, [1.2, 0.0], 6.0) == 1  # 1.2 <= 2, another label
    assert codebook.radii.tolist() == [pytest.approx(0.6 - 1e-5), pytest.approx(0.6)]
    distance, nearest = codebook.search(torch.tensor([[0.7, 0.0], [0.5, 0.0]]))
    assert nearest.tolist() == [1, 0]
    assert (distance <= codebook.radii[nearest]).tolist() == [True, True]


def test_the_same_prompt_with_another_label_is_not_learned():
    codebook = book()
    choose(codebook, [0.0, 0.0], 5.0)
    assert choose(codebook, [0.0, 0.0], 6.0) == 0  # two keys at distance 0: the older is the nearest
    assert codebook.radii.tolist() == [pytest.approx(-1e-5), 0.0]
    distance, nearest = codebook.search(torch.tensor([[0.0, 0.0]]))
    assert not bool(distance <= codebook.radii[nearest])


def test_labels_are_compared_by_their_means():
    codebook = book()
    choose(codebook, [0.0, 0.0], torch.tensor([4, 6]).float().mean().item())
    choose(codebook, [0.5, 0.0], torch.tensor([3, 7]).float().mean().item())  # another answer with the same mean
    assert len(codebook.keys) == 1
