"""The closed forms of ROME, MEMIT and AlphaEdit on examples worked by hand."""

import pytest
import torch

from meloedit.methods.located.closed_form import direction, in_null_space, least_squares, null_space, rank_one


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_the_direction_avoids_what_ordinary_keys_fill():
    u = direction(torch.tensor([3.0, 2.0]).double(), numbers([1.0, 0.0], [0.0, 4.0]))  # C^-1 k = (3, 1/2)
    assert u.tolist() == pytest.approx([3 / 9.25**0.5, 0.5 / 9.25**0.5])


def test_rank_one_changes_the_value_of_the_key_by_what_is_lacking():
    u, key, lacking = (torch.tensor(values).double() for values in ([0.6, 0.8], [5.0, 0.0], [3.0, -6.0]))
    update = rank_one(u, key, lacking)  # k'u = 3
    assert update.flatten().tolist() == pytest.approx([0.6, 0.8, -1.2, -1.6])
    assert (update @ key).tolist() == pytest.approx(lacking.tolist())


def test_least_squares_weighs_ordinary_keys():
    keys, lacking = numbers([1.0], [2.0]), numbers([10.0])
    update = least_squares(keys, lacking, torch.eye(2, dtype=torch.float64), 5.0)  # R K' / (5 + |k|^2)
    assert update.flatten().tolist() == pytest.approx([1.0, 2.0])


def test_the_null_space_is_what_lies_below_the_threshold():
    projection = null_space(numbers([2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 5.0]), 2.0)  # eigenvalues 1, 3, 5
    assert projection.flatten().tolist() == pytest.approx([0.5, -0.5, 0, -0.5, 0.5, 0, 0, 0, 0])
    assert not null_space(torch.eye(2, dtype=torch.float64), 0.5).any()


def test_in_the_null_space_only_free_directions_change_and_earlier_keys_hold_theirs():
    projection = numbers([1.0, 0.0], [0.0, 0.0])
    keys, lacking = numbers([2.0], [3.0]), numbers([12.0])
    none = torch.zeros(2, 2, dtype=torch.float64)
    assert in_null_space(keys, lacking, projection, none, 2.0).flatten().tolist() == pytest.approx([4.0, 0.0])
    earlier = numbers([18.0, 0.0], [0.0, 0.0])  # of a key (sqrt 18, 0)
    assert in_null_space(keys, lacking, projection, earlier, 2.0).flatten().tolist() == pytest.approx([1.0, 0.0])
