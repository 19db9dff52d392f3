"""Reads one event of a user, a plain mapping, for live callers and for `trainer.contract.history`.

Both refuse the same events with the same words, and a value means the same to both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tagtower_client.event_times import event_seconds
from tagtower_client.id_text import id_text
from tagtower_client.line_breaks import one_line
from tagtower_client.requirement import require

MAX_WEIGHT = float(np.finfo(np.float32).max)


class EventRecord(NamedTuple):
    """One event of a user.

    Attributes:
      item_id: Id of the item as text, of one line.
      seconds: Time of the event, seconds since 1970, UTC.
      clicked: 1 if the item was clicked, 0 if it was skipped.
      weight: Weight of the event, rounded to float32; 1 where none is given.
      tags: Tags of the item as they were given.
      category: Category of the item, of one line; "" where unknown.
    """

    item_id: str
    seconds: int
    clicked: int
    weight: float
    tags: Sequence[str]
    category: str


def read_event(record: Mapping[str, Any]) -> EventRecord:
    """Reads one event.

    Args:
      record: Mapping with `item_id`, `timestamp` (seconds, UTC, or any other form of a time that
        the tables may have), `clicked` (0 or 1), the item's `tags` and `category`, and optionally
        `weight`.

    Returns:
      The event.

    Raises:
      ValueError: A key is missing, `clicked` is neither 0 nor 1, or another value is of the wrong
        kind.
    """
    missing = [name for name in ("item_id", "timestamp", "clicked") if name not in record]
    require(not missing, "events", "have item_id, timestamp and clicked", dict(record))
    require(record["clicked"] in (0, 1), "clicked", "be 0 or 1", record["clicked"])
    tags = record.get("tags")
    is_list = tags is None or isinstance(tags, Iterable) and not isinstance(tags, str)
    require(is_list, "tags", "be a list of strings", tags)
    category = record.get("category")
    is_text = category is None or isinstance(category, str)
    require(is_text, "category", 'be a string, "" where unknown', category)
    seconds, weight = _seconds(record["timestamp"]), _weight(record.get("weight"))
    return EventRecord(
        item_id=one_line(_item_id(record["item_id"])),
        seconds=seconds,
        clicked=int(record["clicked"]),
        weight=weight,
        tags=() if tags is None else tuple(tags),
        category=one_line(category or ""),
    )


def _item_id(item_id: Any) -> str:
    text = id_text(item_id)
    if text is None:
        raise ValueError(f"`item_id` must be text or a whole number. Received: {item_id=}.")
    return text


def _seconds(timestamp: Any) -> int:
    seconds = event_seconds(timestamp)
    if seconds is None:
        raise ValueError(
            "`timestamp` must be seconds since 1970, UTC (or ms, us, ns, or ISO 8601). "
            f"Received: {timestamp=}."
        )
    return seconds


def _weight(weight: Any) -> float:
    # float32, as the events of examples have it, so that an event weighs the same in both.
    weight = 1.0 if weight is None else weight
    is_number = isinstance(weight, (int, float, np.number))
    is_weight = is_number and 0 <= weight <= MAX_WEIGHT
    require(is_weight, "weight", "be a number, 0 or more", weight)
    return float(np.float32(weight))
