"""How sure it is that one ranking is better than another for the same users."""

import dataclasses
import math

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """First less second, user by user, with Student's interval of the mean.

    Attributes:
      num_users: Users for whom both are defined.
      first: Mean of the first over them; None: there is no such user.
      second: Mean of the second.
      low: Lower end of the interval of the difference; None where there are fewer than two users.
      high: Upper end.
      confidence: Level of the two-sided interval.
      deviation: Standard deviation of the differences; None as `low`.
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
        """Mean of the differences."""
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
        """Users for whom a difference as large as this one would be above 0; None: it is not."""
        if self.deviation is None or not self.difference or self.difference < 0:
            return None
        quantile = float(stats.norm.ppf(0.5 + self.confidence / 2))
        return math.ceil((quantile * self.deviation / self.difference) ** 2)


def compare_users(first: np.ndarray, second: np.ndarray, confidence: float) -> PairedComparison:
    """Compares two rankings of the same users.

    Args:
      first: float [num_users], nan where a user has no such figure.
      second: float [num_users].
      confidence: Level of the two-sided interval.

    Returns:
      The comparison, over the users who have both.
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
