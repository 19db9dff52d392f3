"""Equal parameter budgets: the hidden width at which two towers have as many parameters."""

import dataclasses
from collections.abc import Callable

from trainer.contract.config_loader import require

# Largest relative deviation from the target, needed as a width is a whole number.
TOLERANCE = 0.02
_MAX_STEPS = 40


@dataclasses.dataclass(frozen=True)
class Width:
    """The width of a tower that matches a budget.

    Attributes:
      hidden_dim: Width of the first fully connected layer.
      parameters: Number of parameters outside the embedding tables at that width.
    """

    hidden_dim: int
    parameters: int


def match_width(
    count: Callable[[int], int], target: int, start: int = 512, max_width: int = 1 << 16
) -> Width:
    """Finds the width whose number of parameters is nearest to a target.

    Args:
      count: Function from width to number of parameters, increasing. It builds a model, so it is
        called seldom: by the secant method where it is (nearly) linear, by bisection where it is
        not.
      target: Wanted number of parameters.
      start: First width to try.
      max_width: Largest width to try.

    Returns:
      The nearest width of at least 1. The caller decides whether it is near enough: a tower whose
      other layers alone exceed the target cannot match it.

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
        # A bisection every third step bounds the work where the count is not linear.
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
    """Returns whether a width is within `TOLERANCE` of the wanted number of parameters."""
    return abs(width.parameters - target) <= TOLERANCE * target
