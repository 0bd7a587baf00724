"""Weights of tokens in a pooled state."""

import math

import pytest
import torch

from meloedit.keys.pooling import COMMON_TOKEN, MIN_TOKEN_WEIGHT, Pooling, span_weights, token_weights, weighted_means


def test_rare_tokens_weigh_more_in_a_pooled_state():
    weights = token_weights([[1, 2, 2], [1, 4]] * 500)  # 1 in every prompt, 2 and 4 in half of them, 3 in none
    assert (
        weights.tolist()[1:3] == pytest.approx([MIN_TOKEN_WEIGHT, MIN_TOKEN_WEIGHT])
        and weights[3] == weights[5] > weights[4]
    )
    assert weights[3] == pytest.approx(MIN_TOKEN_WEIGHT + min(1, (math.log(1001 / 0.5) - COMMON_TOKEN) / 5.5))
    pooling = Pooling(weights, None, None)
    assert span_weights([1, 900, 3], (0, 3), pooling).tolist() == [[weights[1], weights[-1], weights[3]]]
    hidden = torch.randn(1, 4, 5)
    hidden[0, 0] = torch.inf  # padding
    by_hand = (weights[1] * hidden[0, 1] + weights[3] * hidden[0, 2] + weights[3] * hidden[0, 3]) / weights[
        [1, 3, 3]
    ].sum()
    found = weighted_means(hidden, torch.cat([torch.zeros(1), weights[[1, 3, 3]]])[None, None])
    assert torch.allclose(found[0], by_hand, atol=1e-6)
