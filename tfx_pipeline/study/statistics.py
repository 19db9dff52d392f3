"""Statistics of differences: intervals of means and of differences, and multiple comparisons.

All are pure functions of numbers. With one number per seed they describe other trainings on the
same examples, with one per user other users.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from trainer.contract.config_loader import require

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of some values, e.g. over seeds, with its interval.

    Attributes:
      num: Number of values.
      mean: Mean of the values.
      deviation: Standard deviation of the values (n - 1); None for a single value.
      low: Lower end of the 95 % interval of the mean, by Student's t; None for a single value.
      high: Upper end of that interval; None for a single value.
    """

    num: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two means, with its interval.

    Attributes:
      mean: First mean minus second.
      low: Lower end of the 95 % interval; None where a side has a single value.
      high: Upper end of the 95 % interval; None where a side has a single value.
      p_value: Two-sided p-value of no difference; None where a side has a single value, or where
        nothing varies.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_of(values: Sequence[float]) -> Mean:
    """Computes mean, standard deviation and interval of at least one value."""
    array = np.asarray(values, np.float64)
    require(len(array) >= 1, "values", "have at least one entry", len(array))
    mean = float(array.mean())
    if len(array) == 1:
        return Mean(1, mean, None, None, None)
    deviation = float(array.std(ddof=1))
    half = _half_width(deviation / math.sqrt(len(array)), len(array) - 1)
    return Mean(len(array), mean, deviation, mean - half, mean + half)


def welch_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Returns first mean minus second, for independent values with unequal variances (Welch's t).

    With v_i the variance of a mean, s_i^2 / n_i, the difference has the standard error sqrt(v_1 +
    v_2) and (v_1 + v_2)^2 / (v_1^2 / (n_1 - 1) + v_2^2 / (n_2 - 1)) degrees of freedom.

    Args:
      first: Values of the first side, at least one.
      second: Values of the second side, at least one.

    Returns:
      The difference with its interval.
    """
    one, other = mean_of(first), mean_of(second)
    mean = one.mean - other.mean
    if one.deviation is None or other.deviation is None:
        return Difference(mean, None, None, None)
    variances = [side.deviation**2 / side.num for side in (one, other) if side.deviation]
    numbers = [side.num for side in (one, other) if side.deviation]
    if not variances:
        return Difference(mean, mean, mean, None)
    parts = [v**2 / (n - 1) for v, n in zip(variances, numbers, strict=True)]
    return _by_student(mean, math.sqrt(sum(variances)), sum(variances) ** 2 / sum(parts))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Returns first mean minus second, for paired values (Student's t of the differences).

    Args:
      first: Values of the first side, at least one.
      second: Values of the second side, as many, in the same order.

    Returns:
      The difference with its interval.

    Raises:
      ValueError: The sides have different numbers of values.
    """
    require(len(first) == len(second), "second", f"have {len(first)} entries", len(second))
    difference = mean_of(np.subtract(first, second).tolist())
    if not difference.deviation:
        return Difference(difference.mean, difference.low, difference.high, None)
    error = difference.deviation / math.sqrt(difference.num)
    return _by_student(difference.mean, error, difference.num - 1)


def are_separate(first: Mean, second: Mean) -> bool:
    """Returns whether the 95 % intervals of two means do not overlap.

    This is a stricter condition than a difference whose own interval excludes 0. A single value has
    no interval, so that nothing is separate from it.
    """
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return False
    return first.low > second.high or second.low > first.high


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p-values for their number (Holm 1979, doi 10.2307/4615733).

    The i-th smallest of m is multiplied by m - i + 1, and raised to the one before it if it is
    smaller: if all those below 0.05 are accepted, the chance that any of them is false is below 5
    %.

    Args:
      p_values: p-values in any order; None where there is none, which does not count.

    Returns:
      The adjusted p-values in the same order, at most 1.
    """
    known = [i for i, p in enumerate(p_values) if p is not None]
    order = sorted(known, key=lambda i: p_values[i] or 0.0)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = least
    return adjusted


def _by_student(mean: float, error: float, freedom: float) -> Difference:
    half = _half_width(error, freedom)
    p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Difference(mean, mean - half, mean + half, p_value)


def _half_width(error: float, freedom: float) -> float:
    return float(error * stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
