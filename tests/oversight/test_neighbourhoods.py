"""Maps by UMAP, with the real library: it takes long to compile itself, and is an extra."""

import pytest
import torch

from meloedit.errors import MeloEditError
from meloedit.oversight.neighbourhoods import LEAST, Neighbourhoods

pytestmark = pytest.mark.slow
GROUPS, EACH = 4, 12


@pytest.fixture(scope="module", autouse=True)
def umap():
    """The extra; without it these tests are left out."""
    return pytest.importorskip("umap", reason="no umap-learn: pip install '.[umap]'")


def groups(of, seed=1):
    """Points around one centre for each group; (groups, of, d)."""
    centres = 4 * torch.randn(GROUPS, 1, 40, generator=torch.Generator().manual_seed(0))
    return centres + torch.randn(GROUPS, of, 40, generator=torch.Generator().manual_seed(seed))


def test_what_is_alike_lies_together_and_others_are_put_beside_it():
    points = torch.cat([groups(EACH).flatten(0, 1), groups(2, seed=2).flatten(0, 1)])
    places = Neighbourhoods().places(points, GROUPS * EACH)
    assert places.shape == (len(points), 2) and places.isfinite().all()
    distances = torch.cdist(places, places).fill_diagonal_(torch.inf)[:, : GROUPS * EACH]
    own = torch.cat([torch.arange(GROUPS).repeat_interleave(count) for count in (EACH, 2)])
    assert torch.equal(distances.argmin(1) // EACH, own)


def test_the_same_points_have_the_same_places_with_others_and_without():
    points, others = groups(EACH).flatten(0, 1), groups(1, seed=3).flatten(0, 1)
    drawn = Neighbourhoods()
    places = drawn.places(points, len(points))
    more = torch.cat([points, others])
    more = torch.cat([more, torch.arange(len(more))[:, None] >= len(points)], 1)  # an axis that only others have
    for again in (drawn, Neighbourhoods()):
        assert torch.equal(again.places(more, len(points))[: len(points)], places)


def test_the_fewest_points_are_drawn_also_where_some_are_the_same_and_fewer_are_refused():
    points = torch.randn(LEAST - 3, 30, generator=torch.Generator().manual_seed(5))
    same = torch.cat([points, points[:1].expand(3, -1)])
    assert Neighbourhoods().places(same, LEAST).isfinite().all()
    with pytest.raises(MeloEditError, match="at least 10 wordings .* and there are 9"):
        Neighbourhoods().places(same, LEAST - 1)
