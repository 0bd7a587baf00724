"""Principal axes, and the vectors by which keys are drawn."""

import pytest
import torch

from meloedit.keys.keys import Keys
from meloedit.keys.principal import Axes, points_of, principal
from meloedit.keys.similarity import distances


def test_principal_components():
    flat = torch.zeros(50, 7, dtype=torch.float64)
    flat[:, 2] = torch.linspace(-6, 6, 50, dtype=torch.float64)
    flat[:, 5] = torch.tensor([1.0, -1.0] * 25)
    places, share = principal(flat + 100)
    assert sum(share) == pytest.approx(1) and share[0] > 0.9
    assert torch.allclose(torch.pdist(places), torch.pdist(flat), atol=1e-9)
    cloud = torch.randn(30, 4, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(principal(cloud)[0], principal(cloud.flip(0))[0].flip(0), atol=1e-9)  # signs are settled
    for few in (torch.ones(3, 4), torch.tensor([[1.0], [2.0]])):
        places, share = principal(few)
        assert places.shape == (len(few), 2) and places.isfinite().all() and len(share) == 2


def test_other_points_are_put_on_the_same_axes():
    cloud = torch.randn(40, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for points in (cloud, cloud[:6]):  # more points than dimensions, and fewer
        axes = Axes.of(points)
        assert torch.allclose(axes.directions @ axes.directions.T, torch.eye(2, dtype=torch.float64), atol=1e-9)
        values = torch.linalg.svdvals(points - points.mean(0)).square()
        assert axes.shares == pytest.approx((values / values.sum())[:2].tolist())
        assert torch.allclose(axes.places(points[2:4]), axes.places(points)[2:4])
    assert Axes.of(cloud[:1]).shares == (0, 0) and Axes.of(cloud[:0]).places(cloud).tolist() == [[0, 0]] * 40


def unit(*numbers):
    return torch.tensor(numbers) / torch.tensor(numbers).norm()


def test_the_distances_of_points_are_those_of_keys():
    content = torch.stack([unit(1.0, 0, 0), unit(1.0, 1, 0), unit(0.0, 1, 1)])
    relation = torch.stack([unit(1.0, 0), unit(1.0, 2), unit(1.0, 0)])
    codes = torch.tensor([[7, 9], [7, 9], [5, 0]], dtype=torch.int32)
    keys = Keys(content, relation, codes, torch.tensor([[0.75, 0.25], [0.75, 0.25], [1.0, 0.0]]))
    points = points_of(keys)
    real = distances(keys, Keys(*(part.expand(3, *part.shape) for part in keys)))
    assert torch.dist(points[0], points[1]) == pytest.approx(float(real[0, 1]))  # the same names
    assert torch.dist(points[0], points[2]) == pytest.approx(float(real[0, 2]))  # other names, the same relation
    assert torch.equal(points_of(Keys.of_content(content)), content)
