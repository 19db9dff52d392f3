"""Walks over long sequences in pieces of bounded size. Standard library alone."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Value = TypeVar("_Value")


def batched(values: Iterable[_Value], size: int) -> Iterator[list[_Value]]:
    """Yields lists of `size` values, in order; the last one may be shorter.

    A list is read only when it is asked for: values may come from a file as they are read.

    Args:
      values: The values.
      size: Largest number of values in a list, at least 1.

    Yields:
      The lists, none of them empty.
    """
    remaining = iter(values)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def slices(length: int, size: int) -> Iterator[slice]:
    """Yields the slices of `size` rows into which `length` rows fall; the last may be shorter.

    Args:
      length: Number of rows.
      size: Largest number of rows in a slice, at least 1.

    Yields:
      The slices, in order, each with a start and a stop; none of them is empty.
    """
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))
