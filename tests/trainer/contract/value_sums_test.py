"""Sums by value of many stretches at once equal plain loops."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.trainer.random_logs import PROPERTY
from trainer.contract.list_column import ListColumn, concatenated_ranges, offsets_of
from trainer.contract.value_sums import ChosenValues, ValueSums, heaviest

COLUMN = ListColumn.from_lists([["c", "a"], ["b"], [], ["c", "d"]])


def lists(found: ValueSums):
    """Returns [(code, sum), ...] of each stretch."""
    pairs = list(zip(found.codes.tolist(), found.sums.tolist(), strict=True))
    bounds = found.offsets.tolist()
    return [pairs[first:end] for first, end in zip(bounds[:-1], bounds[1:], strict=True)]


def values_of(item):
    return COLUMN.codes[COLUMN.offsets[item] : COLUMN.offsets[item + 1]].tolist()


def test_concatenated_ranges_by_hand():
    owner, numbers = concatenated_ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert numbers.tolist() == [5, 6, 9, 10, 11]
    assert offsets_of(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]


def test_values_are_counted_in_order_of_codes():
    chosen = ChosenValues(COLUMN, np.array([0, 1, 3, 2, 0]), np.array([1, 1, 1, 1, 0], bool))
    found = chosen.count(np.array([0, 3, 0, 2]), np.array([3, 5, 0, 3]))
    a, b, c, d = range(4)
    assert lists(found) == [[(a, 1), (b, 1), (c, 2), (d, 1)], [], [], [(c, 1), (d, 1)]]


def test_weights_are_summed_by_value():
    chosen = ChosenValues(COLUMN, np.array([0, 3, 0]), np.ones(3, bool))
    owner, places = chosen.select(np.array([0]), np.array([3]))
    weights = np.array([1.0, 0.5, 2.0])[chosen.position[places]]
    assert lists(chosen.add_up(owner, places, weights, 1)) == [[(0, 3.0), (2, 3.5), (3, 0.5)]]


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0**40])
def test_heaviest_come_first_and_ties_in_order_of_codes(scale):
    sums = np.array([1.0, 3.0, 3.0, 2.0, 5.0, 5.0]) * scale
    found = ValueSums(np.array([0, 1, 2, 3, 4, 9]), sums, np.array([0, 4, 4, 6]))
    assert [[code for code, _ in row] for row in lists(heaviest(found, 3))] == [
        [1, 2, 3],
        [],
        [4, 9],
    ]
    by_stretch = heaviest(found, np.array([1, 5, 0]))
    assert lists(by_stretch) == [[(1, 3.0 * scale)], [], []]


stretches = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8)


@PROPERTY
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([1.0, 0.1, 3.0, 0.0]))),
    stretches,
    st.integers(1, 4),
)
def test_sums_equal_plain_loops(events, ends, most):
    items = np.array([item for item, _, _ in events], np.int64)
    is_chosen = np.array([is_chosen for _, is_chosen, _ in events], bool)
    weight = np.array([weight for _, _, weight in events])
    bounds = [sorted(min(end, len(events)) for end in pair) for pair in ends]
    first, end = np.array(bounds, np.int64).reshape(-1, 2).T

    chosen = ChosenValues(COLUMN, items, is_chosen)
    owner, places = chosen.select(first, end)
    weights = weight[chosen.rows[chosen.position[places]]]
    sums = chosen.add_up(owner, places, weights, len(first))
    counts = chosen.count(first, end)

    expected_sums, expected_counts = [], []
    for low, high in bounds:
        summed, counted = {}, {}
        for row in range(low, high):
            if is_chosen[row]:
                for code in values_of(items[row]):
                    summed[code] = summed.get(code, 0.0) + weight[row]
                    counted[code] = counted.get(code, 0) + 1
        expected_sums.append(sorted(summed.items()))
        expected_counts.append(sorted(counted.items()))
    assert lists(sums) == expected_sums
    assert lists(counts) == expected_counts
    for found, expected in ((sums, expected_sums), (counts, expected_counts)):
        assert lists(heaviest(found, most)) == [
            sorted(row, key=lambda entry: (-entry[1], entry[0]))[:most] for row in expected
        ]
