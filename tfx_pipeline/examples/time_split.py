"""Where the parts of the protocol `temporal` begin: given, or shares of the log's events.

A share of the events and not of the time span: one event of 1970, or a log that grows, would leave
a share of the time with nearly all events or with none. The events are counted in a histogram of a
bounded size, which sums to the same whatever order its parts come in. No Beam here.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.utc_times import utc_seconds

# Bins that hold an event, at most. One second each while there are no more of them, then two, four
# ...: of a log of a year a bin is at most 9 minutes, and a histogram at most a megabyte.
_MAX_BINS = 2**16


@dataclasses.dataclass(frozen=True)
class TimeSplit:
    """The two moments that part a log.

    Attributes:
      validation_start: Seconds, UTC. Training sees events before it, and nothing else.
      test_start: Seconds, UTC. Events from `validation_start` on and before it are the labels of
        validation, those at or after it the labels of test.
    """

    validation_start: int
    test_start: int


@dataclasses.dataclass(frozen=True)
class TimeHistogram:
    """Number of events by time.

    Attributes:
      bins: int64 [m], ascending and distinct: bin b holds the seconds from `b << log2_width` to
        below `(b + 1) << log2_width`.
      counts: int64 [m], positive.
      log2_width: The smallest for which there are at most `_MAX_BINS` bins.
    """

    bins: np.ndarray
    counts: np.ndarray
    log2_width: int = 0


class LogSpan(NamedTuple):
    """What must be known of all events before the first example is made.

    Attributes:
      end: Seconds of the last event; 0 of none.
      times: Number of events by time; None: nobody asks.
    """

    end: int = 0
    times: TimeHistogram | None = None


def count_times(timestamps: np.ndarray) -> TimeHistogram:
    """Counts events.

    Args:
      timestamps: int64 [n], seconds, in any order.

    Returns:
      Their histogram.
    """
    bins, counts = np.unique(timestamps.astype(np.int64), return_counts=True)
    return _bounded(TimeHistogram(bins, counts))


def sum_histograms(parts: Iterable[TimeHistogram]) -> TimeHistogram:
    """The histogram of all events together.

    A part's bins are no wider than the sum's: whoever has too many bins of some width alone has too
    many of it with others. So the width, and with it the result, depends on the events alone.
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
    """The span of all parts together."""
    parts = list(parts)
    counted = [part.times for part in parts if part.times is not None]
    return LogSpan(
        max((part.end for part in parts), default=0), sum_histograms(counted) if counted else None
    )


def time_split_of_span(span: LogSpan, config: ExamplesConfig) -> TimeSplit | None:
    """Where the parts of `temporal` begin; None: the protocol is another one."""
    if config.split != "temporal":
        return None
    return given_time_split(config) or time_split_of(span.times or sum_histograms([]), config)


def given_time_split(config: ExamplesConfig) -> TimeSplit | None:
    """The moments that the configuration names; None where it names none."""
    if config.validation_start is None or config.test_start is None:
        return None
    return TimeSplit(utc_seconds(config.validation_start), utc_seconds(config.test_start))


def time_split_of(histogram: TimeHistogram, config: ExamplesConfig) -> TimeSplit:
    """The moments that leave the configured shares of the events to validation and test.

    Args:
      histogram: Of all events of the log.
      config: The shares.

    Returns:
      Each the first moment at or after its share, as `tfx_pipeline.examples.snapshots.cut_time` has
      it, or, where bins are wider than a second, the beginning of that moment's bin. Both 0 for no
      event.
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
