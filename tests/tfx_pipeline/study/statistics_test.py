"""Intervals and p-values of the study equal those of scipy's tests."""

import math

import numpy as np
import pytest
from scipy import stats

from tfx_pipeline.study import statistics as s

FIRST = [0.7347, 0.7361, 0.7333]
SECOND = [0.7190, 0.7271, 0.7222, 0.7204]


def test_mean_of_three_has_students_interval():
    mean = s.mean_of([1.0, 2.0, 6.0])

    # Deviation sqrt((4 + 1 + 9) / 2); t of 2 degrees of freedom at 97.5 % is 4.302653.
    assert mean.num == 3
    assert mean.mean == pytest.approx(3.0)
    assert mean.deviation == pytest.approx(math.sqrt(7))
    half = 4.302652729911275 * math.sqrt(7) / math.sqrt(3)
    assert (mean.low, mean.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_single_value_has_no_interval_and_is_separate_from_nothing():
    assert s.mean_of([0.5]) == s.Mean(1, 0.5, None, None, None)
    assert not s.are_separate(s.mean_of([0.5]), s.mean_of([9.0, 9.1]))
    assert s.welch_difference([0.5], [0.25, 0.75]) == s.Difference(0.0, None, None, None)
    assert s.paired_difference([0.75], [0.5]) == s.Difference(0.25, None, None, None)


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="`values` must have at least one entry"):
        s.mean_of([])


def test_welch_difference_equals_scipys():
    difference = s.welch_difference(FIRST, SECOND)

    expected = stats.ttest_ind(FIRST, SECOND, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert difference.mean == pytest.approx(np.mean(FIRST) - np.mean(SECOND), rel=1e-12)
    assert difference.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (difference.low, difference.high) == (
        pytest.approx(interval.low, rel=1e-9),
        pytest.approx(interval.high, rel=1e-9),
    )


def test_paired_difference_equals_scipys():
    first, second = FIRST, SECOND[:3]

    difference = s.paired_difference(first, second)

    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert difference.mean == pytest.approx(np.mean(np.subtract(first, second)))
    assert difference.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (difference.low, difference.high) == (
        pytest.approx(interval.low, rel=1e-9),
        pytest.approx(interval.high, rel=1e-9),
    )


def test_pairing_finds_what_noise_common_to_both_sides_hides():
    noise = np.array([0.0, 10.0, 20.0, 30.0])
    first, second = noise + [1.0, 1.1, 0.9, 1.0], noise

    assert s.paired_difference(first, second).low > 0
    assert s.welch_difference(first, second).low < 0


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="`second` must have 3 entries. Received: second=4."):
        s.paired_difference(FIRST, SECOND)


def test_values_without_spread_have_an_exact_difference_and_no_p_value():
    exact = s.Difference(0.25, 0.25, 0.25, None)

    assert s.welch_difference([0.75, 0.75], [0.5, 0.5, 0.5]) == exact
    assert s.paired_difference([0.75, 0.5], [0.5, 0.25]) == exact


def test_one_side_without_spread_is_compared_all_the_same():
    difference = s.welch_difference(FIRST, [0.71, 0.71, 0.71])

    expected = stats.ttest_1samp(FIRST, 0.71)
    assert difference.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_means_are_separate_only_where_their_intervals_do_not_meet():
    middle = s.Mean(3, 1.0, 0.1, 0.8, 1.2)

    assert s.are_separate(middle, s.Mean(3, 1.5, 0.1, 1.3, 1.7))
    assert s.are_separate(s.Mean(3, 1.5, 0.1, 1.3, 1.7), middle)
    assert not s.are_separate(middle, s.Mean(3, 1.4, 0.1, 1.2, 1.6))
    assert not s.are_separate(middle, middle)


def test_separate_asks_for_more_than_a_difference_that_leaves_out_zero():
    first, second = [0.700, 0.702, 0.704], [0.708, 0.710, 0.712]

    assert s.welch_difference(first, second).high < 0
    assert not s.are_separate(s.mean_of(first), s.mean_of(second))


def test_holm_multiplies_by_what_is_left_and_never_falls():
    adjusted = s.holm([0.01, None, 0.04, 0.03, 0.5])

    # In order: 0.01 * 4, 0.03 * 3, max(0.04 * 2, 0.09), 0.5 * 1.
    assert adjusted == [pytest.approx(0.04), None, pytest.approx(0.09), pytest.approx(0.09), 0.5]


def test_holm_is_never_above_one_and_of_nothing_is_nothing():
    assert s.holm([0.6, 0.7]) == [1.0, 1.0]
    assert s.holm([None]) == [None]
    assert s.holm([]) == []
