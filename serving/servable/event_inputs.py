"""Events of users as tensors of a signature: padded lists, or flat arrays with row lengths.

Both forms become `Events`, flat and unpadded but for events without tags, which do not count.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from tagtower_client.event_times import FINE_UNITS, FIRST_FINE_SECOND, LAST_SECOND
from trainer.contract import signatures as s


class Events(NamedTuple):
    """The events of all users of a request, one user after the other, in any order within one.

    Attributes:
      owner: int64 [num_events], the user of each event, ascending.
      seconds: int64 [num_events], times in seconds, UTC.
      is_clicked: bool [num_events], whether the item was clicked, else it was skipped.
      weight: float32 [num_events], weights of the events; None: each is 1.
      item_id: string [num_events], ids of the items.
      category: string [num_events], categories of the items, "" if unknown; None: not needed.
      tags: string [num_values], the tags of all items, with padding.
      tagged: int64 [num_values], the event of each tag, ascending.
      now: float64 [batch], time to answer for in seconds, UTC.
    """

    owner: tf.Tensor
    seconds: tf.Tensor
    is_clicked: tf.Tensor
    weight: tf.Tensor | None
    item_id: tf.Tensor
    category: tf.Tensor | None
    tags: tf.Tensor
    tagged: tf.Tensor
    now: tf.Tensor


def from_lists(inputs: Mapping[str, tf.Tensor]) -> Events:
    """Reads events as padded lists, one row a user.

    Args:
      inputs: Tensors by name, see `tagtower_client.event_rows`; padding has no tags.

    Returns:
      The events, padding included.
    """
    tags = inputs[s.EVENT_TAGS]
    shape = tf.shape(tags, tf.int64)
    num_users, num_events = shape[0], shape[1]
    _check_shapes(inputs, shape[:2])
    all_events = tf.range(num_users * num_events)
    return _events(
        inputs,
        owner=all_events // tf.maximum(num_events, 1),
        tagged=tf.repeat(all_events, shape[2]),
    )


def from_flat(inputs: Mapping[str, tf.Tensor]) -> Events:
    """Reads events as flat arrays, one user after the other.

    Args:
      inputs: Tensors by name, see `tagtower_client.event_rows`.

    Returns:
      The events.
    """
    per_user, per_event = inputs[s.NUM_EVENTS], inputs[s.EVENT_NUM_TAGS]
    total = _sum_of(per_user, s.NUM_EVENTS, tf.size(per_event, tf.int64), s.EVENT_NUM_TAGS)
    num_tags = tf.size(inputs[s.EVENT_TAGS], tf.int64)
    _sum_of(per_event, s.EVENT_NUM_TAGS, num_tags, s.EVENT_TAGS)
    _check_shapes(inputs, total[tf.newaxis])
    return _events(
        inputs,
        owner=tf.repeat(tf.range(tf.size(per_user, tf.int64)), per_user),
        tagged=tf.repeat(tf.range(total), per_event),
    )


def _events(inputs: Mapping[str, tf.Tensor], owner: tf.Tensor, tagged: tf.Tensor) -> Events:
    clicked = _flat(inputs, s.EVENT_CLICKED)
    _require(
        tf.reduce_all((clicked == 0) | (clicked == 1)),
        f"`{s.EVENT_CLICKED}` must be 0 or 1",
        clicked,
    )
    weight = _flat(inputs, s.EVENT_WEIGHT) if s.EVENT_WEIGHT in inputs else None
    if weight is not None:
        is_weight = (weight >= 0) & (weight <= weight.dtype.max)  # false for NaN, too
        _require(
            tf.reduce_all(is_weight),
            f"`{s.EVENT_WEIGHT}` must be finite numbers, 0 or more",
            weight,
        )
    return Events(
        owner=owner,
        seconds=_seconds(_flat(inputs, s.EVENT_TIME)),
        is_clicked=clicked == 1,
        weight=weight,
        item_id=_flat(inputs, s.EVENT_ITEM_ID),
        category=_flat(inputs, s.EVENT_CATEGORY) if s.EVENT_CATEGORY in inputs else None,
        tags=_flat(inputs, s.EVENT_TAGS),
        tagged=tagged,
        now=_checked_now(inputs[s.NOW]),
    )


def _flat(inputs: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
    return tf.reshape(inputs[name], [-1])


def _check_shapes(inputs: Mapping[str, tf.Tensor], shape: tf.Tensor) -> None:
    names = (s.EVENT_ITEM_ID, s.EVENT_CLICKED, s.EVENT_TIME, s.EVENT_CATEGORY, s.EVENT_WEIGHT)
    for name in names:
        if name in inputs:
            found = tf.shape(inputs[name], tf.int64)
            _require(
                tf.reduce_all(found == shape),
                f"`{name}` must have one value for each event",
                found,
            )


def _sum_of(lengths: tf.Tensor, name: str, expected: tf.Tensor, counted: str) -> tf.Tensor:
    """Returns the sum of row lengths, which must be the number of what they count."""
    _require(tf.reduce_all(lengths >= 0), f"`{name}` must be 0 or more", lengths)
    total = tf.reduce_sum(lengths)
    _require(total == expected, f"the sum of `{name}` must be the length of `{counted}`", total)
    return total


def _seconds(times: tf.Tensor) -> tf.Tensor:
    """Converts times of any unit to seconds, as `event_times.seconds_of_numbers` does."""
    seconds, is_time = times, times <= LAST_SECOND
    for unit in FINE_UNITS:
        of_unit = times // unit
        is_unit = ~is_time & (of_unit >= FIRST_FINE_SECOND) & (of_unit <= LAST_SECOND)
        seconds, is_time = tf.where(is_unit, of_unit, seconds), is_time | is_unit
    text = f"`{s.EVENT_TIME}` must be seconds since 1970, UTC (or ms, us or ns)"
    _require(tf.reduce_all(is_time), text, tf.boolean_mask(times, ~is_time))
    return seconds


def _checked_now(now: tf.Tensor) -> tf.Tensor:
    is_time = tf.abs(now) <= LAST_SECOND  # false for NaN, too
    text = f"`{s.NOW}` must be a time in seconds since 1970, UTC, not milliseconds"
    _require(tf.reduce_all(is_time), text, now)
    return now


def _require(condition: tf.Tensor, text: str, received: tf.Tensor) -> None:
    """Refuses a request, on any server, with a line that has the text and the first values."""
    tf.debugging.Assert(condition, [f"{text}. Received:", received], summarize=3)
