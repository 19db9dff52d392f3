"""Reads the option SIZE of a benchmark, as in `make bench-index SIZE=1000000`."""

import os
from collections.abc import Sequence


def sizes(default: Sequence[int]) -> list[int]:
    """Reads the sizes from the environment.

    Args:
      default: Sizes of the benchmark if `SIZE` is not set.

    Returns:
      The sizes, at least one.

    Raises:
      ValueError: `SIZE` is something else than positive integers separated by commas.
    """
    text = os.environ.get("SIZE", "")
    if not text:
        return list(default)
    words = [word.strip().replace("_", "") for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(
            "`SIZE` must be a positive integer, or some with commas between. "
            f"Received: SIZE={text!r}."
        )
    return [int(word) for word in words]


def one_size(default: int) -> int:
    """Reads one size from the environment, as `sizes` reads several.

    Raises:
      ValueError: `SIZE` is no positive integer, or there are several.
    """
    found = sizes([default])
    if len(found) > 1:
        raise ValueError(
            f"`SIZE` must be one positive integer here. Received: SIZE={os.environ['SIZE']!r}."
        )
    return found[0]
