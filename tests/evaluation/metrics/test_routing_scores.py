"""The metrics of routing, by hand, against a literal oracle, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meloedit.evaluation.metrics.routing_scores import CONFIDENCE, DRAWS, EditDistances, Negatives

SHARES = [0.0, 0.25, 0.5]


def threshold(negatives, share):
    """The distance below which floor(share * n) of n negatives lie."""
    return sorted(negatives)[int(share * len(negatives))]


def literal(near, right, far, share):
    """Coverage at a share of negatives, or without one the AUC, of lists of distances."""
    if share is None:
        return sum((n < f) + (n == f) / 2 for n in near for f in far) / len(near) / len(far)
    return sum(hit and n < threshold(far, share) for n, hit in zip(near, right, strict=True)) / len(near)


def drawn_rows(rng, items):
    """Draw as many items as there are, and return the numbers of all their rows."""
    names = sorted(set(items))
    return [
        row for i in rng.integers(len(names), size=len(names)) for row, item in enumerate(items) if item == names[i]
    ]


@pytest.mark.parametrize("seed", range(6))
def test_figures_and_intervals_are_those_of_literal_draws(seed):
    chance = np.random.default_rng(seed)
    n, m = chance.integers(2, 12, 2)
    near, far = (chance.integers(0, 9, size) / 8 for size in (n, m))  # with ties
    far[chance.random(m) < 0.2] = np.inf  # where nothing is near
    right, items, others = chance.random(n) < 0.8, chance.integers(0, 5, n).tolist(), chance.integers(3, 9, m).tolist()
    measured = EditDistances(near, right, items).against(Negatives(far, others), SHARES, seed)
    for found, share in zip([*measured.coverage, measured.auc], [*SHARES, None], strict=True):
        rng, figures = np.random.default_rng(seed), []
        for _ in range(DRAWS):
            rows, other = drawn_rows(rng, items), drawn_rows(rng, others)
            figures.append(literal(near[rows], right[rows], far[other], share))
        low, high = np.quantile(figures, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        assert (found.value, found.n) == (literal(near, right, far, share), n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_figures_by_hand():
    near, far = [0.1, 0.2, 0.3, 0.9], Negatives([0.25, 0.5, 0.6, 0.8], range(4))
    measured = EditDistances(near, [True, True, False, True], [0, 0, 1, 1])
    found = measured.against(far, SHARES)  # thresholds 0.25, 0.5 and 0.6
    assert [one.value for one in found.coverage] == [0.5, 0.5, 0.5]  # 0.1 and 0.2; 0.3 is another's, and 0.9 too far
    assert [one.n for one in found.coverage] == [4, 4, 4]
    wider = Negatives([0.25, 0.95, 0.95, 0.95], range(4))
    assert [one.value for one in measured.against(wider, SHARES).coverage] == [0.5, 0.75, 0.75]
    forms = Negatives(far.distance, [7, 7, 9, 9])  # two questions in two forms: fewer thresholds can come of them
    assert measured.against(forms, []).auc.value == found.auc.value
    again = Negatives(far.distance * 1, [1, 1, 2, 2])
    assert measured.against(forms, []).auc.low == measured.against(again, []).auc.low


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, 80).round(1), rng.normal(1, 1, 60).round(1)  # with ties
    own = EditDistances(near, [True] * 80, range(80)).against(Negatives(far, range(60)), []).auc
    other = roc_auc_score([1] * 80 + [0] * 60, -np.concatenate([near, far]))
    assert own.value == pytest.approx(other, abs=1e-12) and own.low < own.value < own.high
