"""Reads times: numbers of seconds, milli-, micro- or nanoseconds since 1970, or text.

The readers of the tables (`tfx_pipeline.tables.times`, whole columns at once) and live callers
with a user's events both use it, so that a value means one time to both. No Arrow and no
TensorFlow here.

The unit follows from the value itself, never from its neighbours, so the ranges of the units must
not overlap: seconds reach to the end of the year 9999, a finer unit begins in 1980 and ends there
too. A number between two ranges is no time: its unit cannot be told. A time without a zone is UTC.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from typing import Any

import numpy as np

LAST_SECOND = 253_402_300_799  # 9999-12-31 23:59:59
FIRST_FINE_SECOND = 315_532_800  # 1980-01-01, which in milliseconds is beyond `LAST_SECOND`
FINE_UNITS = (10**3, 10**6, 10**9)  # per second
_INT64_END = 2**63

# Patterns in the syntax that `re` and RE2 share.
# Bounded digits and exponent, so that every match has a finite value.
NUMBER = r"^-?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
ISO_8601 = (
    r"^(?P<year>[1-9][0-9]{3})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:(?:[Tt]| +)(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?"
    r" ?(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?$"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_INTEGER = r"^-?[0-9]{1,40}$"


def seconds_of_numbers(times: np.ndarray) -> np.ndarray:
    """Converts numbers of any unit to whole seconds, rounded down.

    Args:
      times: int64 or float64 [n], times since 1970; NaN is no time.

    Returns:
      float64 [n], seconds since 1970; NaN where the unit cannot be told.
    """
    if times.dtype.kind == "f":
        # Computed with integers, so that no division rounds up into the next second.
        is_known = np.abs(times) < _INT64_END
        whole = np.floor(np.where(is_known, times, 0.0)).astype(np.int64)
        return np.where(is_known, seconds_of_numbers(whole), np.nan)
    seconds = times.astype(np.float64)
    is_fine = times > LAST_SECOND
    if is_fine.any():
        fine = times[is_fine]
        found = np.full(len(fine), np.nan)
        for unit in FINE_UNITS:
            of_unit = fine // unit
            is_unit = (of_unit >= FIRST_FINE_SECOND) & (of_unit <= LAST_SECOND)
            found[is_unit] = of_unit[is_unit]
        seconds[is_fine] = found
    return seconds


def zone_offset(zone: str) -> float:
    """Returns the seconds east of UTC of `+02:00`, `+0200` or `+02`.

    UTC and an empty text give 0, an offset out of range gives NaN.
    """
    if zone[:1] not in ("+", "-"):
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        return float("nan")
    return (3600 * hours + 60 * minutes) * (-1.0 if zone[0] == "-" else 1.0)


def event_seconds(value: Any) -> int | None:
    """Converts one time to whole seconds since 1970, rounded down.

    Args:
      value: A number, a date, a `datetime`, or text with a number or an ISO 8601 time.

    Returns:
      The seconds; None for a value that is no time.
    """
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, str):
        text = value.strip()
        found = re.match(ISO_8601, text)
        if found is not None:
            return _seconds_of_fields(found)
        if re.match(_INTEGER, text):
            value = int(text)
        elif re.match(NUMBER, text):
            value = float(text)
    if isinstance(value, datetime.date):
        if value != value:  # pandas' `NaT` is a `datetime`
            return None
        if not isinstance(value, datetime.datetime):
            value = datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, datetime.datetime):
        zone = value.tzinfo or datetime.timezone.utc
        # Not `timestamp()`, a float, which rounds the last microseconds of a far second up.
        return (value.replace(tzinfo=zone) - _EPOCH) // datetime.timedelta(seconds=1)
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()  # `math.floor` needs a number of Python
    if not isinstance(value, (int, float, decimal.Decimal)):
        return None
    if not -_INT64_END <= value < _INT64_END:  # false for NaN, too
        return None
    seconds = seconds_of_numbers(np.array([math.floor(value)], np.int64))[0]
    return None if np.isnan(seconds) else int(seconds)


def _seconds_of_fields(found: re.Match[str]) -> int | None:
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    offset = zone_offset(found["zone"] or "")
    try:
        date = datetime.date(int(found["year"]), int(found["month"]), int(found["day"]))
        datetime.time(hour, minute, second)
    except ValueError:
        return None
    if math.isnan(offset):
        return None
    days = (date - datetime.date(1970, 1, 1)).days
    return days * 86_400 + hour * 3600 + minute * 60 + second - int(offset)
