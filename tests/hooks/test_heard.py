"""The tokens that a cache's columns had: kept on the cache, cut and refilled with it, and copied with it."""

import copy

import torch

from meloedit.hooks.heard import heard, remember


class Cache:
    """Anything that can have attributes."""


def test_tokens_of_a_cache_are_known_by_their_column():
    cache = Cache()
    assert heard(cache, "a", 1, 3) is None
    remember(cache, "a", 0, torch.tensor([[1, 2, 3]]))
    remember(cache, "a", 3, torch.tensor([[4]]))
    assert heard(cache, "a", 1, 4).tolist() == [[1, 2, 3, 4]]
    other = copy.deepcopy(cache)
    remember(cache, "a", 2, torch.tensor([[7, 8]]))  # the cache was cut back, and went on otherwise
    assert heard(cache, "a", 1, 4).tolist() == [[1, 2, 7, 8]]
    assert heard(other, "a", 1, 6).tolist() == [[1, 2, 3, 4, -1, -1]]
    assert heard(other, "a", 1, 2).tolist() == [[1, 2]]
    assert heard(other, "a", 2, 3).tolist() == [[-1] * 3] * 2  # of another number of rows
    remember(cache, "a", 0, torch.tensor([[9]]))  # from the start
    assert heard(cache, "a", 1, 2).tolist() == [[9, -1]]


def test_embeddings_are_not_known():
    cache = Cache()
    remember(cache, "a", 0, None)
    assert heard(cache, "a", 1, 1) is None


def test_embeddings_in_the_place_of_tokens_are_not_taken_for_these():
    cache = Cache()
    remember(cache, "a", 0, torch.tensor([[1, 2, 3, 4]]))
    remember(cache, "a", 2, None)  # the cache was cut back, and went on with embeddings
    remember(cache, "a", 5, torch.tensor([[6]]))
    assert heard(cache, "a", 1, 6).tolist() == [[1, 2, -1, -1, -1, 6]]
    remember(cache, "a", 0, None)  # from the start
    assert heard(cache, "a", 1, 2) is None
