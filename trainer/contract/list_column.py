"""Columns of lists of numbers or of dictionary-encoded strings, and ranges of their rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class ListColumn:
    """A column of string lists, dictionary-encoded.

    Attributes:
      codes: int [num_values], positions in `vocabulary`, the lists one after the other.
      offsets: int [num_rows + 1], ends of the lists; row i is `codes[offsets[i]:offsets[i + 1]]`.
      vocabulary: str [num_distinct], sorted, so that the order of codes is the order of strings. A
        numpy array or, where only codes are read, any object with a length.
    """

    codes: np.ndarray
    offsets: np.ndarray
    vocabulary: Any

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[str]]) -> "ListColumn":
        """Encodes plain lists of strings; a value counts once in a row."""
        unique_rows = [sorted(set(row)) for row in rows]
        vocabulary = sorted({value for row in unique_rows for value in row})
        position = {value: i for i, value in enumerate(vocabulary)}
        codes = [position[value] for row in unique_rows for value in row]
        offsets = np.cumsum([0] + [len(row) for row in unique_rows])
        return cls(
            np.array(codes, np.int32), offsets.astype(np.int64), np.array(vocabulary, object)
        )

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Returns the numbers of values of some rows, int [n]."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def select(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values of some rows.

        Args:
          rows: int [n], row numbers, repetition allowed.

        Returns:
          `codes` int [m], and `position` int [m], the entry of `rows` that each code belongs to.
        """
        position, places = concatenated_ranges(self.offsets[rows], self.lengths(rows))
        return self.codes[places], position


@dataclasses.dataclass(frozen=True)
class ListValues:
    """A column of lists of numbers: row i is `values[offsets[i]:offsets[i + 1]]`.

    Attributes:
      values: int or float [num_values], the lists one after the other.
      offsets: int64 [num_rows + 1], bounds of the lists, starting with 0.
    """

    values: np.ndarray
    offsets: np.ndarray

    @property
    def row_ids(self) -> np.ndarray:
        """The row of each value, int64 [num_values]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def is_known(self, num_ids: int | None = None) -> np.ndarray:
        """Returns which values are ids of a vocabulary, bool [num_values].

        Args:
          num_ids: Size of the vocabulary: hash buckets, which come after it, are not known then.
            None: only -1, for which there is no id, is unknown.
        """
        is_known = self.values >= 0
        return is_known if num_ids is None else is_known & (self.values < num_ids)

    def known_pairs(self, num_ids: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row and the id of every known value, both int [m]; see `is_known`."""
        is_known = self.is_known(num_ids)
        return self.row_ids[is_known], self.values[is_known]

    def members(self, num_ids: int) -> np.ndarray:
        """Returns which ids each list has, bool [num_rows, `num_ids`]; -1 is left out."""
        members = np.zeros((len(self.offsets) - 1, num_ids), bool)
        members[self.known_pairs()] = True
        return members

    @property
    def num_unknown(self) -> np.ndarray:
        """The number of values without an id in each list, int64 [num_rows]."""
        return np.bincount(self.row_ids[~self.is_known()], minlength=len(self.offsets) - 1)

    def take(self, rows: np.ndarray) -> "ListValues":
        """Returns the lists of `rows`, int [n], in that order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        _, positions = concatenated_ranges(self.offsets[rows], lengths)
        return ListValues(self.values[positions], offsets_of(lengths))


def concatenated_ranges(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenates ranges of integers.

    Args:
      starts: int [n], first numbers of the ranges.
      lengths: int [n], lengths of the ranges, none negative.

    Returns:
      `owner` int [m], the range that each number belongs to, and `numbers` int [m].
    """
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(starts)), lengths)
    numbers = np.repeat(starts - (ends - lengths), lengths)
    numbers += np.arange(len(numbers))
    return owner, numbers


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Returns where each of n lists begins and where the last one ends, int64 [n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
