"""The maps from states and texts to keys, stored and read back."""

import torch

from meloedit.keys.encoder import KeyEncoder
from meloedit.keys.keys import MAX_WORDS, Keys, KeyShape
from meloedit.keys.names import WordCounts
from meloedit.keys.pooling import token_weights
from meloedit.keys.projection import Projection
from meloedit.types import Asked

STATES, TEXTS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]), [Asked("xq"), Asked("a")]
PROJECTION = Projection(torch.zeros(2), torch.eye(2))


def equal(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_an_encoder_makes_the_same_keys_after_a_way_through_the_store():
    words, weights = WordCounts.fit(["a b"] * 100), token_weights([[1, 2], [1, 3]])
    encoder = KeyEncoder(PROJECTION, PROJECTION, words, weights)
    keys = encoder.keys(STATES, TEXTS)
    assert encoder.shape == keys.shape == KeyShape(2, 2) and encoder.shape.size == 4 + 2 * MAX_WORDS
    again = KeyEncoder.from_tensors(encoder.to_tensors())
    assert equal(again.keys(STATES, TEXTS), keys) and torch.equal(again.token_weights, weights)
    assert equal(Keys.from_tensors(keys.to_tensors()), keys)


def test_keys_of_documents_are_content_alone():
    encoder = KeyEncoder.from_tensors(PROJECTION.to_tensors("content"))
    keys = encoder.keys(STATES[:, :2], TEXTS)
    assert encoder.shape == keys.shape == KeyShape(2) and encoder.shape.size == 2
    assert torch.equal(keys.content, STATES[:, :2]) and list(keys.to_tensors()) == ["content"]
    assert equal(Keys.from_tensors(keys.to_tensors()), keys)


def test_keys_are_a_table_of_rows():
    keys = KeyEncoder(PROJECTION, PROJECTION, WordCounts.fit(["a b"] * 9)).keys(STATES, TEXTS)
    first, second = keys.split([1, 1])
    assert equal(Keys.cat([first, second]), keys) and equal(keys[[1, 0]][1:], keys[:1])
    assert keys[None].expand(3).content.shape == (3, 1, 2, 2) and len(Keys.empty(keys.shape)) == 0
