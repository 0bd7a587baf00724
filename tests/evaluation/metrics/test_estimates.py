"""Estimates: F1, exact match, perplexity, and their intervals."""

import math
import sys

import pytest

from meloedit.errors import MeloEditError
from meloedit.evaluation.metrics.estimates import (
    exact,
    f1,
    mean,
    perplexity,
    perplexity_of_rows,
    released_f1,
    share,
    without_special,
)

END = 1


@pytest.mark.parametrize(
    ("predicted", "gold", "score"),
    [
        ([5, 6], [5, 6], 1.0),
        ([6, 5], [5, 6], 1.0),
        ([5, 6, 7, 8], [5, 6], 2 / 3),
        ([5], [6], 0.0),
        ([5, 5], [5], 2 / 3),  # a token said twice is common once
        ([5, 5, 6], [5, 5, 7], 2 / 3),  # and common twice where both say it twice
        ([], [], 1.0),
        ([], [5], 0.0),
        ([5], [], 0.0),
    ],
)
def test_f1_is_over_multisets(predicted, gold, score):
    assert f1(predicted, gold) == pytest.approx(score)


def test_the_end_token_is_left_out():
    assert without_special([0, 5, 6, END], {0, END}) == [5, 6]
    assert f1(without_special([7, END], {END}), without_special([5, END], {END})) == 0.0


def test_exact_ignores_ends_only():
    assert exact(" Paris\n", "Paris")
    assert not exact("paris", "Paris")


def test_released_f1_counts_the_end_token_as_a_word():
    right = [[5, 6, END], [7, END]]
    assert released_f1(right, [[5, 6], [7]], END) == 1.0
    assert released_f1(right, [[5, 6, END], [7, END]], END) == 1.0  # the same whether the answers have it or not
    assert released_f1([[8, END], [7, END]], [[5], [7]], END) == pytest.approx((0.5 + 1.0) / 2)


def test_released_f1_counts_common_tokens_once():
    row = [5, 5, 6, END]
    assert released_f1([row, row], [row, row], END) == pytest.approx(0.75)
    assert f1(row[:-1], row[:-1]) == 1.0


@pytest.mark.parametrize("bad", [[8, 9], [], [END], [5]])
def test_one_bad_row_zeroes_the_whole_released_batch(bad):
    assert released_f1([[5, END], [6, END], bad], [[5], [6], [5]], END) == 0.0


def test_a_released_batch_of_one_is_zero():
    assert released_f1([[5, 6, END]], [[5, 6]], END) == 0.0


def test_released_f1_needs_rows_in_pairs():
    with pytest.raises(MeloEditError, match="no rows"):
        released_f1([], [], END)
    with pytest.raises(MeloEditError, match="2 predictions and 1 answers"):
        released_f1([[5], [6]], [[5]], END)


def test_perplexity():
    assert perplexity(10 * math.log(3), 10) == pytest.approx(3)
    assert perplexity(1e9, 1) == math.inf
    with pytest.raises(MeloEditError, match="at least one token"):
        perplexity(1.0, 0)


def test_perplexity_of_rows_weighs_tokens_not_rows():
    sums, tokens = [2 * math.log(2), 8 * math.log(4)], [2, 8]
    found = perplexity_of_rows(sums, tokens)
    assert found.value == pytest.approx(perplexity(sum(sums), 10))
    assert found.low == pytest.approx(2) and found.high == pytest.approx(4) and found.n == 2
    with pytest.raises(MeloEditError, match="1 sums and 2 counts"):
        perplexity_of_rows([1.0], [1, 2])


def test_share_has_wilsons_interval():
    found = share([True] * 8 + [False] * 2)
    assert found.value == 0.8 and found.n == 10
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert found.to_dict() == {"value": 0.8, "ci": [0.4902, 0.9433], "n": 10}
    assert share([True] * 10).high == pytest.approx(1.0)


def test_mean_is_the_same_for_the_same_seed():
    values = [0.0, 1.0] * 50
    found = mean(values)
    assert found == mean(values)
    assert found.value == 0.5 and found.n == 100
    assert 0.38 < found.low < 0.42 and 0.58 < found.high < 0.62
    assert mean([0.3] * 5).low == pytest.approx(0.3)
    assert mean([0.3]).to_dict() == {"value": 0.3, "ci": [0.3, 0.3], "n": 1}


def test_no_rows_have_no_figure():
    for measure in (share, mean):
        with pytest.raises(MeloEditError, match="no rows"):
            measure([])


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MeloEditError, match=r"meloedit\[eval\]"):
        share([True])
