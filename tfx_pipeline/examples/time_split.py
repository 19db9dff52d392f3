"""Start times of validation and test in the protocol `temporal`: given, or by shares of events.

The shares are of the events and not of the time span: with one event of 1970, or a growing log, a
share of the time could hold nearly all events or none. The events are counted in a histogram of
bounded size, whose sum does not depend on the order of its parts. No Beam here.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.utc_times import utc_seconds

# Largest number of bins with events. Bins are one second wide as long as that suffices, then two,
# four and so on: for a log of a year a bin is at most 9 minutes, and a histogram at most a
# megabyte.
_MAX_BINS = 2**16


@dataclasses.dataclass(frozen=True)
class TimeSplit:
    """The two times that divide a log into training, validation and test.

    Attributes:
      validation_start: Time in seconds, UTC. Training sees only events before it.
      test_start: Time in seconds, UTC. Events from `validation_start` to before it are the labels
        of validation, later ones those of test.
    """

    validation_start: int
    test_start: int


@dataclasses.dataclass(frozen=True)
class TimeHistogram:
    """Number of events by time, in bins of one width.

    Attributes:
      bins: int64 [m], ascending and distinct: bin b holds the seconds from `b << log2_width` to
        below `(b + 1) << log2_width`.
      counts: int64 [m], positive numbers of events.
      log2_width: Binary logarithm of the bins' width in seconds: the smallest with which there are
        at most `_MAX_BINS` bins.
    """

    bins: np.ndarray
    counts: np.ndarray
    log2_width: int = 0


class LogSpan(NamedTuple):
    """Facts about all events that must be known before the first example is made.

    Attributes:
      end: Time of the last event in seconds; 0 without events.
      times: Number of events by time; None: not needed.
    """

    end: int = 0
    times: TimeHistogram | None = None


def count_times(timestamps: np.ndarray) -> TimeHistogram:
    """Counts events by time.

    Args:
      timestamps: int64 [n], seconds, in any order.

    Returns:
      The histogram of the events.
    """
    bins, counts = np.unique(timestamps.astype(np.int64), return_counts=True)
    return _bounded(TimeHistogram(bins, counts))


def sum_histograms(parts: Iterable[TimeHistogram]) -> TimeHistogram:
    """Returns the histogram of all events together.

    A part's bins are never wider than those of the sum: a part that has too many bins of some width
    alone also has too many together with others. So the width, and with it the result, depends on
    the events alone.
    """
    parts = list(parts)
    log2_width = max((part.log2_width for part in parts), default=0)
    bins = [part.bins >> (log2_width - part.log2_width) for part in parts]
    counts = [part.counts for part in parts]
    nothing = np.zeros(0, np.int64)
    return _bounded(
        _merged(np.concatenate([nothing, *bins]), np.concatenate([nothing, *counts]), log2_width)
    )


def merge_spans(parts: Iterable[LogSpan]) -> LogSpan:
    """Returns the span of all parts together."""
    parts = list(parts)
    counted = [part.times for part in parts if part.times is not None]
    return LogSpan(
        max((part.end for part in parts), default=0), sum_histograms(counted) if counted else None
    )


def time_split_of_span(span: LogSpan, config: ExamplesConfig) -> TimeSplit | None:
    """Returns the start times of validation and test in `temporal`; None in another protocol."""
    if config.split != "temporal":
        return None
    return given_time_split(config) or time_split_of(span.times or sum_histograms([]), config)


def given_time_split(config: ExamplesConfig) -> TimeSplit | None:
    """Returns the start times that the configuration names; None where it names none."""
    if config.validation_start is None or config.test_start is None:
        return None
    return TimeSplit(utc_seconds(config.validation_start), utc_seconds(config.test_start))


def time_split_of(histogram: TimeHistogram, config: ExamplesConfig) -> TimeSplit:
    """Returns the times that leave the configured shares of the events to validation and test.

    Args:
      histogram: Number of events of the whole log by time.
      config: Shares of validation and test.

    Returns:
      The times, each that of the first event at or after its share, so that equal times stay
      together, or, where bins are wider than a second, the start of that time's bin. Both are 0
      without events.
    """
    total = int(histogram.counts.sum())
    if not total:
        return TimeSplit(0, 0)
    up_to = np.cumsum(histogram.counts)

    def moment(share_after: float) -> int:
        position = min(math.ceil(total - share_after * total), total - 1)
        found = int(np.searchsorted(up_to, position, side="right"))
        return int(histogram.bins[found]) << histogram.log2_width

    return TimeSplit(
        moment(config.validation_fraction + config.test_fraction), moment(config.test_fraction)
    )


def _bounded(histogram: TimeHistogram) -> TimeHistogram:
    while len(histogram.bins) > _MAX_BINS:
        histogram = _merged(histogram.bins >> 1, histogram.counts, histogram.log2_width + 1)
    return histogram


def _merged(bins: np.ndarray, counts: np.ndarray, log2_width: int) -> TimeHistogram:
    distinct, inverse = np.unique(bins, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, inverse, counts)
    return TimeHistogram(distinct, sums, log2_width)
