"""The option SIZE: how much a benchmark measures with, as in `make bench-index SIZE=1000000`."""

import os
from collections.abc import Sequence


def sizes(default: Sequence[int]) -> list[int]:
    """The sizes asked for in the environment.

    Args:
      default: Those of a benchmark that nobody asked for another size.

    Returns:
      At least one.

    Raises:
      ValueError: `SIZE` is something else than positive integers with commas between.
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
    """The one size asked for; see `sizes`.

    Raises:
      ValueError: `SIZE` is no positive integer, or there are several.
    """
    found = sizes([default])
    if len(found) > 1:
        raise ValueError(
            f"`SIZE` must be one positive integer here. Received: SIZE={os.environ['SIZE']!r}."
        )
    return found[0]
