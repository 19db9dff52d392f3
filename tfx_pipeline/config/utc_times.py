"""Times in a configuration (ISO 8601) and in events (seconds since 1970-01-01, UTC)."""

import datetime
import math


def utc_seconds(text: str) -> int:
    """Returns the seconds since 1970-01-01, UTC, of an ISO 8601 date or time.

    Args:
      text: `2019-11-13` or `2019-11-13T06:30:00`, the latter also with a zone (`+01:00` or `Z`).
        Without a zone it is UTC, and a date stands for its first second.

    Returns:
      The first whole second that is not before that time.

    Raises:
      ValueError: The text is not an ISO 8601 date or time.
    """
    # Python's `fromisoformat` accepts `Z`, which is ISO 8601, from 3.11 on.
    moment = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] == "Z" else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return math.ceil(moment.timestamp())


def utc_text(seconds: int) -> str:
    """Returns a time in ISO 8601 for people to read: `2019-11-13T06:30:00Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_day(text: str) -> bool:
    """Returns whether a text is a date in the form `2019-11-13`."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
