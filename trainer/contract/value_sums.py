"""Computes sums by value over stretches of events, for all stretches at once. Numpy alone.

A stretch is a run of rows of one user. The values of its events are gathered, sorted by (stretch,
value) and added up, without a loop over users.
"""

from typing import NamedTuple

import numpy as np

from trainer.contract.list_column import ListColumn, concatenated_ranges, offsets_of

_KEY_BITS = 63


class ValueSums(NamedTuple):
    """Distinct values of each stretch with their sums.

    Attributes:
      codes: int [n], positions in the vocabulary, the stretches one after the other.
      sums: float [n], sum of each value.
      offsets: int64 [num_stretches + 1], bounds of the stretches in `codes` and `sums`.
    """

    codes: np.ndarray
    sums: np.ndarray
    offsets: np.ndarray

    @property
    def owner(self) -> np.ndarray:
        """The stretch of each value, int [n]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class ChosenValues:
    """Values of an attribute of some of the events, for example of the clicked ones.

    Attributes:
      rows: int [num_chosen], rows of the chosen events, ascending.
      codes: int [num_values], values of these events, one event after the other.
      position: int [num_values], position in `rows` of the event that each value belongs to.
    """

    def __init__(self, column: ListColumn, items: np.ndarray, is_chosen: np.ndarray):
        """Gathers the values of the chosen events.

        Args:
          column: The attribute of the items.
          items: int [num_events], row of each event's item in `column`.
          is_chosen: bool [num_events], whether each event is chosen.
        """
        self.rows = np.flatnonzero(is_chosen)
        self.codes, self.position = column.select(items[self.rows])
        self._code_bits = _bits(len(column.vocabulary) - 1)
        self._before = offsets_of(is_chosen)
        self._offsets = offsets_of(column.lengths(items[self.rows]))

    def select(self, first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values of some stretches.

        Args:
          first: int [m], first row of each stretch.
          end: int [m], row after the last row of each stretch.

        Returns:
          `owner` int [n], the stretch of each value, and `places` int [n], positions in `codes`.
        """
        starts = self._offsets[self._before[first]]
        return concatenated_ranges(starts, self._offsets[self._before[end]] - starts)

    def first_of_last(self, num_rows: int, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Finds where the last few chosen events of each stretch begin.

        Args:
          num_rows: Number of chosen events wanted, the last ones.
          first: int [m], first row of each stretch.
          end: int [m], row after the last row of each stretch.

        Returns:
          int [m], rows where they begin; `first` where a stretch has no more than `num_rows`.
        """
        begins = first.copy()
        places = self._before[end] - num_rows
        has_more = places > self._before[first]
        begins[has_more] = self.rows[places[has_more]]
        return begins

    def count(self, first: np.ndarray, end: np.ndarray) -> ValueSums:
        """Counts how often each value is in each stretch [first, end), codes ascending."""
        owner, places = self.select(first, end)
        keys = (owner << self._code_bits) | self.codes[places]
        keys.sort()
        starts = _group_starts(keys)
        counts = np.diff(starts, append=len(keys)).astype(np.float64)
        return self._sums(keys[starts], counts, len(first))

    def add_up(
        self, owner: np.ndarray, places: np.ndarray, weights: np.ndarray, num_stretches: int
    ) -> ValueSums:
        """Sums weights by value, each sum in the order of the events.

        Args:
          owner: int [n], stretch of each value, as `select` returns it.
          places: int [n], positions in `codes`, as `select` returns them.
          weights: float [n], weight of each value.
          num_stretches: Number of stretches.

        Returns:
          The sums, with codes ascending within a stretch.
        """
        keys = (owner << self._code_bits) | self.codes[places]
        order = _stable_order(keys)
        keys = keys[order]
        starts = _group_starts(keys)
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(keys)))
        sums = np.bincount(group, weights=weights[order], minlength=len(starts))
        return self._sums(keys[starts], sums, num_stretches)

    def _sums(self, keys: np.ndarray, sums: np.ndarray, num_stretches: int) -> ValueSums:
        codes = keys & ((1 << self._code_bits) - 1)
        owner = keys >> self._code_bits
        return ValueSums(codes, sums, offsets_of(np.bincount(owner, minlength=num_stretches)))


def heaviest(found: ValueSums, max_values: int | np.ndarray) -> ValueSums:
    """Orders values by their sums, the greatest first, ties in order of the codes.

    Args:
      found: Values and sums, with codes ascending within a stretch.
      max_values: Number of values kept of each stretch: one number, or int [num_stretches].

    Returns:
      At most `max_values` values of each stretch.
    """
    owner = found.owner
    order = _order_by_sum(owner, found)
    lengths = np.diff(found.offsets)
    kept = np.minimum(lengths, max_values)
    if (kept < lengths).any():
        order = order[concatenated_ranges(found.offsets[:-1], kept)[1]]
    return ValueSums(found.codes[order], found.sums[order], offsets_of(kept))


def _order_by_sum(owner: np.ndarray, found: ValueSums) -> np.ndarray:
    """Returns positions sorted by (owner, -sum, code); codes ascend within an owner already."""
    largest = found.sums.max(initial=0.0)
    if largest < 2**31 and (found.sums == np.floor(found.sums)).all():
        keys = (owner << _bits(int(largest))) | (int(largest) - found.sums.astype(np.int64))
        return _stable_order(keys)
    order = np.argsort(-found.sums, kind="stable")
    return order[_stable_order(owner[order])]


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Computes `np.argsort(keys, kind="stable")` of integers from 0 on.

    Key and position are packed into one integer where they fit: sorting these is four times as
    fast.
    """
    position_bits = _bits(len(keys) - 1)
    if _bits(int(keys.max(initial=0))) + position_bits > _KEY_BITS:
        return np.argsort(keys, kind="stable")
    packed = (keys << position_bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << position_bits) - 1)


def _group_starts(keys: np.ndarray) -> np.ndarray:
    """Returns the positions where runs of equal keys begin."""
    is_first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def _bits(largest: int) -> int:
    return max(largest, 1).bit_length()
