"""The whitening against its own formula, and what it is for."""

import pytest
import torch

from meloedit.keys.projection import Projection


def correlated(count, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=torch.Generator().manual_seed(9)) * torch.logspace(1, -2, size)
    return torch.randn(count, size, generator=generator) @ mix.T + 5


def test_whitened_states_are_uncorrelated_and_keys_have_unit_length():
    states = correlated(4000)
    whitening = Projection.fit(states, 12, shrinkage=0.0)
    white = (states - whitening.mean) @ whitening.components.T
    assert torch.allclose(white.T.cov(), torch.eye(12), atol=1e-2)
    keys = whitening(states)
    assert torch.allclose(keys.norm(dim=1), torch.ones(4000), atol=1e-5)
    assert torch.allclose(keys, white / white.norm(dim=1, keepdim=True), atol=1e-5)
    cosine = keys[0] @ keys[1]
    assert (keys[0] - keys[1]).norm() == pytest.approx((2 - 2 * cosine.item()) ** 0.5, abs=1e-5)


def test_the_leading_components_are_kept_and_shrunk_towards_their_mean():
    states = correlated(500)
    variances, axes = torch.linalg.eigh(states.double().T.cov())
    variances, axes = variances.flip(0)[:5], axes.flip(1)[:, :5]
    shrunk = 0.9 * variances + 0.1 * variances.mean()
    components = Projection.fit(states, 5, shrinkage=0.1).components.double()
    assert components.shape == (5, 12)
    assert torch.allclose(components.abs(), (axes / shrunk.sqrt()).T.abs(), rtol=1e-3, atol=1e-6)


def test_one_huge_dimension_does_not_decide():
    # As "massive activations" do: without whitening every key would be the same direction.
    states = torch.randn(600, 8, generator=torch.Generator().manual_seed(1))
    states[:, 3] = 900 + states[:, 3]
    whitening = Projection.fit(states, 8)
    raw = torch.nn.functional.normalize(states, dim=1)
    assert (raw @ raw.T).min() > 0.99
    keys = whitening(states)
    assert (keys @ keys.T).fill_diagonal_(0).abs().mean() < 0.4


def test_fewer_states_than_dimensions_give_finite_keys():
    whitening = Projection.fit(correlated(6), 12)
    keys = whitening(correlated(20, seed=2))
    assert torch.isfinite(keys).all() and keys.shape == (20, 12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_keys_are_float32_whatever_the_states(dtype):
    whitening = Projection.fit(correlated(300).to(dtype), 6)
    keys = whitening(correlated(3).to(dtype))
    assert keys.dtype == whitening.mean.dtype == torch.float32
    assert whitening(correlated(3)[0]).shape == (6,)


def test_pairs_draw_the_discriminant_that_tells_questions_apart():
    rng = torch.Generator().manual_seed(0)
    question, wording = torch.randn(400, 6, generator=rng), torch.randn(2, 400, 6, generator=rng)
    scale = torch.tensor([1.0, 1.0, 1.0, 20.0, 20.0, 20.0])  # what differs between wordings is large
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    first, second = (question * mask + 0.1 * own * scale for own in wording)
    plain = Projection.fit(torch.cat([first, second]), 3, shrinkage=0.0)
    learned = Projection.fit_pairs(first, second, 3, shrinkage=0.0)

    def right(whitening):
        return ((whitening(first[:50]) @ whitening(second[:50]).T).argmax(1) == torch.arange(50)).float().mean()

    assert right(learned) > 0.6 and right(learned) > 3 * right(plain)
