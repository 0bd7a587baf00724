"""Whether two lists of keys share one, compared in parts."""

import pytest
import torch

from meloedit.keys import similarity
from meloedit.keys.keys import Keys
from meloedit.keys.similarity import same_keys


def some_keys(count, seed):
    generator = torch.Generator().manual_seed(seed)
    content, relation = torch.randn(count, 8, generator=generator), torch.randn(count, 4, generator=generator)
    return Keys(content, relation, torch.ones(count, 24, dtype=torch.int32), torch.zeros(count, 24))


@pytest.mark.parametrize("cells", [1, 1000, 2**24])
def test_keys_are_found_in_whatever_part_they_are(monkeypatch, cells):
    monkeypatch.setattr(similarity, "CELLS_AT_ONCE", cells)
    first, second = some_keys(30, 1), some_keys(20, 2)
    assert not same_keys(first, second, 1e-3) and not same_keys(first[:0], second, 1e-3)
    for place in (0, 13, 29):
        assert same_keys(first, Keys.cat([second, first[[place]]]), 1e-3)
