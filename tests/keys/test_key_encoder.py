"""The maps from states and texts to keys, stored and read back."""

import torch

from meloedit.keys.encoder import Calibration
from meloedit.keys.names import SLOTS, WordVectors
from meloedit.keys.pooling import token_weights
from meloedit.keys.projection import Projection


def test_keys_are_the_same_after_a_way_through_the_store():
    whitening = Projection(torch.zeros(2), torch.eye(2))
    made = Calibration(
        whitening,
        torch.zeros(0, 4 + 2 * SLOTS),
        {},
        WordVectors.fit(["a b"] * 100),
        token_weights([[1, 2], [1, 3]]),
        torch.zeros(0),
        whitening,
    )
    states, texts = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]), ["xq", "a"]
    keys = made.keys(states, texts)
    assert made.similarity.size == keys.shape[1] == 4 + 2 * SLOTS
    back = Calibration.from_tensors(made.to_tensors(), {})
    assert torch.equal(back.keys(states, texts), keys) and torch.equal(back.token_weights, made.token_weights)
    plain = Calibration.from_tensors({"mean": torch.zeros(2), "components": torch.eye(2), "prompts": keys[:, :2]}, {})
    assert plain.similarity.size == 2 and torch.equal(plain.keys(states[:, :2], texts), states[:, :2])  # documents
