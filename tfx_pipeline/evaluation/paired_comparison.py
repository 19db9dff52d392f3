"""Paired comparison of two rankings for the same users, with a confidence interval."""

import dataclasses
import math

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """The mean of first minus second over users, with Student's interval.

    Attributes:
      num_users: Number of users for whom both figures are defined.
      first: Mean of the first figure over these users; None: there are none.
      second: Mean of the second figure over these users; None: there are none.
      low: Lower end of the interval of the mean difference; None: there are fewer than two users.
      high: Upper end of the interval of the mean difference; None: there are fewer than two users.
      confidence: Confidence level of the two-sided interval.
      deviation: Standard deviation of the differences; None: there are fewer than two users.
    """

    num_users: int
    first: float | None
    second: float | None
    low: float | None
    high: float | None
    confidence: float
    deviation: float | None

    @property
    def difference(self) -> float | None:
        """Mean of the differences; None: there are no users."""
        if self.first is None or self.second is None:
            return None
        return self.first - self.second

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0

    @property
    def num_needed(self) -> int | None:
        """Number of users with whom this difference would be above 0; None: it is not positive."""
        if self.deviation is None or not self.difference or self.difference < 0:
            return None
        quantile = float(stats.norm.ppf(0.5 + self.confidence / 2))
        return math.ceil((quantile * self.deviation / self.difference) ** 2)


def compare_users(first: np.ndarray, second: np.ndarray, confidence: float) -> PairedComparison:
    """Compares two rankings by a figure of the same users.

    Args:
      first: float [num_users], figures of the first ranking, nan where a user has none.
      second: float [num_users], figures of the second ranking, nan where a user has none.
      confidence: Confidence level of the two-sided interval.

    Returns:
      The comparison, over the users who have both figures.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    num_users = int(both.sum())
    if not num_users:
        return PairedComparison(0, None, None, None, None, confidence, None)
    means = float(first[both].mean()), float(second[both].mean())
    if num_users == 1:
        return PairedComparison(1, *means, None, None, confidence, None)
    differences = first[both].astype(np.float64) - second[both]
    deviation = float(differences.std(ddof=1))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, num_users - 1))
    half = quantile * deviation / math.sqrt(num_users)
    mean = float(differences.mean())
    return PairedComparison(num_users, *means, mean - half, mean + half, confidence, deviation)
