"""The metrics of routing, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meloedit.evaluation.metrics.routing_scores import EditDistances, Negatives, threshold


def test_figures_by_hand():
    near, far = [0.1, 0.2, 0.3, 0.9], Negatives([0.25, 0.5, 0.6, 0.8], range(4))
    measured = EditDistances(near, [True, True, False, True], [0, 0, 1, 1])
    distances = np.array(far.distance)
    assert threshold(distances, 0.0) == 0.25 and threshold(distances, 0.25) == 0.5
    assert measured.coverage(far, 0.0).value == 0.5  # 0.1 and 0.2; 0.3 is another's, and too far
    assert measured.coverage(far, 0.25).value == 0.5
    assert measured.coverage(far, 0.5).n == 4
    forms = Negatives(far.distance, [7, 7, 9, 9])  # two questions in two forms: fewer thresholds can come of them
    assert measured.auc(forms).value == measured.auc(far).value
    assert measured.auc(forms).low == measured.auc(Negatives(far.distance * 1, [1, 1, 2, 2])).low


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, 80).round(1), rng.normal(1, 1, 60).round(1)  # with ties
    own = EditDistances(near, [True] * 80, range(80)).auc(Negatives(far, range(60)))
    other = roc_auc_score([1] * 80 + [0] * 60, -np.concatenate([near, far]))
    assert own.value == pytest.approx(other, abs=1e-12) and own.low < own.value < own.high
