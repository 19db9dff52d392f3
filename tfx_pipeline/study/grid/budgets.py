"""Equal parameter budgets: the hidden width at which one tower is as large as another."""

import dataclasses
from collections.abc import Callable

from trainer.contract.config_loader import require

# A width is a whole number, so that counts meet within half a step of it.
TOLERANCE = 0.02
_MAX_STEPS = 40


@dataclasses.dataclass(frozen=True)
class Width:
    """A tower in a budget.

    Attributes:
      hidden_dim: Width of the first fully connected layer.
      parameters: Parameters outside the embedding tables, as they then are.
    """

    hidden_dim: int
    parameters: int


def match_width(
    count: Callable[[int], int], target: int, start: int = 512, max_width: int = 1 << 16
) -> Width:
    """The width whose parameters are nearest to a number.

    Args:
      count: Parameters by width; grows with it. It builds a model: it is asked seldom, by the
        secant where it is (nearly) a straight line, by halves where it is not.
      target: The parameters wanted.
      start: The first width tried.
      max_width: The widest that is looked at.

    Returns:
      The nearest width of at least 1. Whether it is near enough is the caller's question: a tower
      whose other layers alone are larger than the target cannot come near.

    Raises:
      ValueError: `target` or `start` is not positive.
    """
    require(target >= 1, "target", "be a positive integer", target)
    require(1 <= start <= max_width, "start", f"be between 1 and {max_width}", start)
    counts = {width: count(width) for width in {1, start}}
    if counts[1] >= target:
        return Width(1, counts[1])
    low, high = 1, start
    while counts[high] < target:
        if high == max_width:
            return Width(high, counts[high])
        low, high = high, min(2 * high, max_width)
        counts[high] = count(high)
    for step in range(_MAX_STEPS):
        if high - low <= 1:
            break
        share = (target - counts[low]) / (counts[high] - counts[low])
        # A step of halves now and then bounds the work where the count is no straight line.
        middle = low + round((high - low) * share) if step % 3 < 2 else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        counts[middle] = count(middle)
        if counts[middle] < target:
            low = middle
        else:
            high = middle
    best = min((low, high), key=lambda width: (abs(counts[width] - target), width))
    return Width(best, counts[best])


def is_matched(width: Width, target: int) -> bool:
    """Whether a width came within `TOLERANCE` of the parameters wanted."""
    return abs(width.parameters - target) <= TOLERANCE * target
