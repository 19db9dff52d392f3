"""Times of any Arrow type become seconds, UTC; tests/field has texts and sizes of numbers."""

import datetime

import pyarrow as pa
import pytest

from tfx_pipeline.tables import times


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_arrow_timestamps_are_seconds_in_utc(unit, zone):
    moment = datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.timezone.utc)
    column = pa.array([moment, None], pa.timestamp(unit, tz=zone))
    seconds = times.as_seconds(column)
    assert seconds.values[0] == 1_000_000_000
    assert seconds.is_missing.tolist() == [False, True]


def test_seconds_of_other_types():
    assert times.as_seconds(pa.array([datetime.date(1970, 1, 2)])).values.tolist() == [86400]
    assert times.as_seconds(pa.array([10.9, -0.5])).values.tolist() == [10, -1]
    assert times.as_seconds(pa.array(["10"])).values.tolist() == [10]
    assert times.as_seconds(pa.array([True])).is_invalid.tolist() == [True]
