"""Figures and their 95 % intervals: F1, exact match, perplexity, shares and means, each defined once, here.

F1 is over token ids, as in the paper. `f1` is the metric; `released_f1` only explains published figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import MeloEditError

CONFIDENCE = 0.95
_RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and its number of rows; ``low`` and ``high`` are NaN if there is no interval."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return value, interval and number of rows as JSON-ready values, rounded."""
        ci = None if math.isnan(self.low) else [_rounded(self.low), _rounded(self.high)]
        return {"value": _rounded(self.value), "ci": ci, "n": self.n}


def _rounded(value: float) -> float:
    """Round to four decimals, a small number (a divergence) to four digits."""
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.4g}")


def without_special(ids: Sequence[int], special: Collection[int]) -> list[int]:
    """Return token ids without the special ones; otherwise the end token would match in every answer."""
    return [token for token in ids if token not in special]


def f1(predicted: Sequence[int], gold: Sequence[int]) -> float:
    """Return SQuAD's F1 of two answers over multisets of token ids, which must be without special tokens.

    Two empty answers agree (1), an empty and another one do not (0).
    """
    if not predicted or not gold:
        return float(len(predicted) == len(gold))
    common = (Counter(predicted) & Counter(gold)).total()
    return 2 * common / (len(predicted) + len(gold))


def exact(predicted: str, gold: str) -> bool:
    """Return whether two answers are the same text, but for white space at their ends."""
    return predicted.strip() == gold.strip()


def released_f1(predicted: Sequence[Sequence[int]], gold: Sequence[Sequence[int]], end_id: int) -> float:
    """Return the F1 of one batch as the code released with the MELO paper computes it, to explain published figures.

    Do not report it. It differs from `f1`:

    - the end token counts as a word of both answers, so a wrong answer that ends scores above zero;
    - what is common counts each token once, the lengths count it as often as it comes, so that a right answer with a
      repeated token scores below one;
    - one row with nothing in common (a wrong answer cut off before its end), or of fewer than two tokens, makes the
      whole batch zero: the error is caught and zero returned;
    - a batch of one row is zero, for the same reason.

    There, the mean of a data set is the mean over its batches, whatever their sizes.

    Args:
        predicted: what the model generated, without start and padding tokens, with the end token where it came.
        gold: the right answers; the end token is added where it is missing.
        end_id: the end token.

    Raises:
        MeloEditError: if there is no row, or not one prediction for each answer.
    """
    _same_length(predicted, gold, "predictions", "answers")
    scores = []
    for output, wanted in zip(predicted, gold, strict=True):
        answer = [*wanted] if wanted and wanted[-1] == end_id else [*wanted, end_id]
        common = len(set(output) & set(answer))
        if len(predicted) == 1 or min(len(output), len(answer)) < 2 or common == 0:
            return 0.0
        precision, recall = common / len(output), common / len(answer)
        scores.append(2 * precision * recall / (precision + recall))
    return sum(scores) / len(scores)


def perplexity(nll_sum: float, tokens: int) -> float:
    """Return exp of the mean negative log-likelihood of a token; infinite where a float overflows."""
    if tokens <= 0:
        raise MeloEditError("perplexity needs at least one token")
    try:
        return math.exp(nll_sum / tokens)
    except OverflowError:
        return math.inf


def share(hits: Sequence[bool]) -> Estimate:
    """Return a share with its Wilson interval."""
    _check_not_empty(hits)
    value = sum(hits) / len(hits)
    return Estimate(value, *_wilson(value, len(hits)), len(hits))


def share_of_groups(sums: Sequence[float], counts: Sequence[float], seed: int = 0) -> Estimate:
    """Return a share over the rows of groups, with an interval that draws groups, since rows of one group are alike.

    The interval is the bootstrap's. If all groups have the same share, the bootstrap has no width; then it is Wilson's
    over the number of groups.
    """
    estimate = pooled(sums, counts, seed)
    if estimate.high - estimate.low > 1e-9:
        return estimate
    return Estimate(estimate.value, *_wilson(estimate.value, len(sums)), estimate.n)


def _wilson(value: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a share p of n: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    z = float(_stats().norm.ppf((1 + CONFIDENCE) / 2))
    middle, half = value + z * z / (2 * n), z * math.sqrt(max(0.0, value * (1 - value) / n) + (z / (2 * n)) ** 2)
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return (low if value > 0 else 0.0), (high if value < 1 else 1.0)


def mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Return a mean with its bootstrap interval, rows drawn with replacement."""
    _check_not_empty(values)
    data = np.asarray(values, dtype=float)
    low, high = _bootstrap((data,), lambda rows, axis: rows.mean(axis=axis), seed)
    return Estimate(float(data.mean()), low, high, len(data))


def pooled(sums: Sequence[float], counts: Sequence[float], seed: int = 0) -> Estimate:
    """Return a mean over all rows of groups with its bootstrap interval, whole groups drawn with replacement.

    Args:
        sums: the sum of each group's rows.
        counts: how many rows each group has.
        seed: of the draws.
    """
    _same_length(sums, counts, "sums", "counts")
    totals, numbers = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    low, high = _bootstrap((totals, numbers), lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis), seed)
    return Estimate(float(totals.sum() / numbers.sum()), low, high, int(numbers.sum()))


def perplexity_of_rows(nll_sums: Sequence[float], tokens: Sequence[int], seed: int = 0) -> Estimate:
    """Return the perplexity of all tokens with its bootstrap interval, whole rows drawn with replacement."""
    _same_length(nll_sums, tokens, "sums", "counts")
    sums, counts = np.asarray(nll_sums, dtype=float), np.asarray(tokens, dtype=float)
    value = perplexity(float(sums.sum()), int(counts.sum()))
    low, high = _bootstrap((sums, counts), lambda s, n, axis: np.exp(s.sum(axis=axis) / n.sum(axis=axis)), seed)
    return Estimate(value, low, high, len(sums))


def _bootstrap(data: tuple[np.ndarray, ...], statistic: Any, seed: int) -> tuple[float, float]:
    if len(data[0]) == 1:  # one row drawn again and again: scipy refuses it, and n says how little it is worth
        only = float(statistic(*data, axis=-1))
        return only, only
    interval = (
        _stats()
        .bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=500,  # all at once would take 80 MB for a thousand rows
            confidence_level=CONFIDENCE,
            method="percentile",  # defined also where all rows are equal
            random_state=np.random.default_rng(seed),
        )
        .confidence_interval
    )
    return float(interval.low), float(interval.high)


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise MeloEditError("intervals need the extra 'eval': pip install 'meloedit[eval]'") from None
    return stats


def _check_not_empty(values: Sequence[Any]) -> None:
    if len(values) == 0:
        raise MeloEditError("no rows: a share or a mean needs at least one")


def _same_length(left: Sequence[Any], right: Sequence[Any], left_name: str, right_name: str) -> None:
    _check_not_empty(left)
    if len(left) != len(right):
        raise MeloEditError(f"{len(left)} {left_name} and {len(right)} {right_name}: one of each a row is needed")
