"""Moments as people write them in a configuration, and as events carry them: seconds, UTC."""

import datetime
import math


def utc_seconds(text: str) -> int:
    """Seconds since 1970-01-01, UTC, of an ISO 8601 date or time.

    Args:
      text: `2019-11-13`, `2019-11-13T06:30:00`, the same with a zone (`+01:00` or `Z`); without
        one it is UTC, and a date is its first second.

    Returns:
      The first whole second that is not before it.

    Raises:
      ValueError: It is no such text.
    """
    # `Z` is ISO 8601, but Python reads it from 3.11 on.
    moment = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] == "Z" else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return math.ceil(moment.timestamp())


def utc_text(seconds: int) -> str:
    """The moment in ISO 8601, for people: `2019-11-13T06:30:00Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_day(text: str) -> bool:
    """Whether a text is a date in the form `2019-11-13`."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
