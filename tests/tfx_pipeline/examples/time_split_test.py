"""Shares of events as moments equal those of sorted events, in any order of the parts."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples import time_split
from tfx_pipeline.examples.time_split import (
    TimeSplit,
    count_times,
    given_time_split,
    sum_histograms,
    time_split_of,
)

TIMES = st.lists(st.integers(1, 100), min_size=1, max_size=40)


def config(validation=0.25, test=0.25, **others):
    return ExamplesConfig(
        split="temporal", validation_fraction=validation, test_fraction=test, **others
    )


def cut_time(timestamps, fraction):
    """The time of the event at a fraction of the ascending ones; equal times stay together."""
    return int(timestamps[min(math.ceil(fraction * len(timestamps)), len(timestamps) - 1)])


def histogram(times):
    return count_times(np.array(times, np.int64))


@PROPERTY
@hypothesis.given(TIMES, st.sampled_from([(0.25, 0.25), (0.125, 0.5), (0.5, 0.125)]))
def test_moments_are_the_cuts_of_the_sorted_events(times, shares):
    found = time_split_of(histogram(times), config(*shares))
    ordered = np.sort(times)
    # Shares that binary fractions hold exactly, so that both ways compute the same positions.
    assert found == TimeSplit(
        cut_time(ordered, 1 - shares[0] - shares[1]), cut_time(ordered, 1 - shares[1])
    )


def test_shares_by_hand():
    found = time_split_of(histogram(range(100, 200)), config(0.1, 0.2))
    assert found == TimeSplit(170, 180)
    # A second that many events share stays together: the cut is its beginning.
    assert (
        time_split_of(histogram([1, 2, 3, 5, 5, 5, 5, 5, 5, 6]), config(0.1, 0.2)).test_start == 5
    )


def test_log_without_an_event_has_no_moments():
    assert time_split_of(sum_histograms([]), config()) == TimeSplit(0, 0)


@PROPERTY
@hypothesis.given(TIMES, st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 3, 8]))
def test_sum_does_not_depend_on_grouping_or_order(times, one, other, max_bins):
    first, second = sorted((one, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_split, "_MAX_BINS", max_bins)
        whole = histogram(times)
        a, b, c = (histogram(part) for part in (times[:first], times[first:second], times[second:]))
        sums = [
            sum_histograms([a, b, c]),
            sum_histograms([c, a, b]),
            sum_histograms([sum_histograms([a]), sum_histograms([sum_histograms([c, b])])]),
        ]
    # The narrowest bins of a power of two that are few enough, by trying all.
    log2_width = next(w for w in range(10) if len({t >> w for t in times}) <= max_bins)
    for found in (whole, *sums):
        assert found.log2_width == log2_width
        assert found.bins.tolist() == sorted({time >> log2_width for time in times})
        expected = [sum(t >> log2_width == b for t in times) for b in found.bins]
        assert found.counts.tolist() == expected


@PROPERTY
@hypothesis.given(TIMES)
def test_wide_bins_move_a_moment_to_the_beginning_of_its_bin(times):
    exact = time_split_of(histogram(times), config())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_split, "_MAX_BINS", 4)
        counted = histogram(times)
    found = time_split_of(counted, config())
    for name in ("validation_start", "test_start"):
        assert getattr(found, name) >> counted.log2_width == (
            getattr(exact, name) >> counted.log2_width
        )
        assert getattr(found, name) % (1 << counted.log2_width) == 0


def test_given_moments_are_those_of_the_configuration():
    given = config(validation_start="2019-11-13", test_start="2019-11-14T00:00:01Z")
    assert given_time_split(given) == TimeSplit(1_573_603_200, 1_573_689_601)
    assert given_time_split(config()) is None
    assert given_time_split(ExamplesConfig()) is None
