"""Events of users as tensors of a signature: padded lists, or flat arrays with row lengths.

Both forms become `Events`, flat and unpadded but for events without tags, which do not count.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from tagtower_client.event_times import FINE_UNITS, FIRST_FINE_SECOND, LAST_SECOND
from trainer.contract import signatures as s

# Inputs with one value for each event; a model may lack the last two.
_OF_EVENTS = (s.EVENT_ITEM_ID, s.EVENT_CLICKED, s.EVENT_TIME, s.EVENT_CATEGORY, s.EVENT_WEIGHT)
# Texts are compared eight bytes at a time as long as they are equal, so two long ones would keep a
# server busy for minutes.
MAX_TEXT_BYTES = 1024
# Whether a demand is met, the demand, and what was received.
_Check = tuple[tf.Tensor, str, tf.Tensor]


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
    shape = tf.shape(inputs[s.EVENT_TAGS], tf.int64)
    inputs = _checked(inputs, shape[0], shape[:2])
    num_events = shape[0] * shape[1]
    all_events = tf.range(num_events)
    owner = all_events // tf.maximum(shape[1], 1)
    return _events(inputs, owner, tf.repeat(all_events, shape[2]))


def from_flat(inputs: Mapping[str, tf.Tensor]) -> Events:
    """Reads events as flat arrays, one user after the other.

    Args:
      inputs: Tensors by name, see `tagtower_client.event_rows`.

    Returns:
      The events.
    """
    num_users = tf.size(inputs[s.NUM_EVENTS], tf.int64)
    num_events = tf.size(inputs[s.EVENT_NUM_TAGS], tf.int64)
    checks = (
        *_length_checks(inputs[s.NUM_EVENTS], s.NUM_EVENTS, num_events, s.EVENT_NUM_TAGS),
        *_length_checks(
            inputs[s.EVENT_NUM_TAGS],
            s.EVENT_NUM_TAGS,
            tf.size(inputs[s.EVENT_TAGS], tf.int64),
            s.EVENT_TAGS,
        ),
    )
    inputs = _checked(inputs, num_users, num_events[tf.newaxis], checks)
    owner = tf.repeat(tf.range(num_users), inputs[s.NUM_EVENTS])
    return _events(inputs, owner, tf.repeat(tf.range(num_events), inputs[s.EVENT_NUM_TAGS]))


def _events(inputs: Mapping[str, tf.Tensor], owner: tf.Tensor, tagged: tf.Tensor) -> Events:
    flat = {name: tf.reshape(inputs[name], [-1]) for name in _OF_EVENTS if name in inputs}
    return Events(
        owner=owner,
        seconds=_seconds(flat[s.EVENT_TIME])[0],
        is_clicked=flat[s.EVENT_CLICKED] == 1,
        weight=flat.get(s.EVENT_WEIGHT),
        item_id=flat[s.EVENT_ITEM_ID],
        category=flat.get(s.EVENT_CATEGORY),
        tags=tf.reshape(inputs[s.EVENT_TAGS], [-1]),
        tagged=tagged,
        now=inputs[s.NOW],
    )


def _checked(
    inputs: Mapping[str, tf.Tensor],
    num_users: tf.Tensor,
    shape: tf.Tensor,
    checks: Iterable[_Check] = (),
) -> dict[str, tf.Tensor]:
    """Refuses a request, on any server, with a line that names the input and its first values.

    Args:
      inputs: Tensors by name.
      num_users: Number of users.
      shape: Shape of the tensors that have one value for each event.
      checks: Further checks, which come first.

    Returns:
      The same tensors; what is computed from them waits for the checks.
    """
    checks = (*checks, *_shape_checks(inputs, num_users, shape), *_value_checks(inputs))
    # Not `tf.debugging.Assert`, which adds a branch of two functions around this operation.
    asserts = [
        tf.raw_ops.Assert(condition=is_met, data=[f"{demand}. Received:", received], summarize=3)
        for is_met, demand, received in checks
    ]
    with tf.control_dependencies(asserts):
        return {name: tf.identity(tensor) for name, tensor in inputs.items()}


def _length_checks(
    lengths: tf.Tensor, name: str, total: tf.Tensor, counted: str
) -> Iterator[_Check]:
    # Also the greatest is compared: sums of great lengths wrap around.
    is_length = (lengths >= 0) & (lengths <= total)
    demand = f"`{name}` must be from 0 to the length of `{counted}`"
    yield tf.reduce_all(is_length), demand, lengths
    found = tf.reduce_sum(lengths)
    yield found == total, f"the sum of `{name}` must be the length of `{counted}`", found


def _shape_checks(
    inputs: Mapping[str, tf.Tensor], num_users: tf.Tensor, shape: tf.Tensor
) -> Iterator[_Check]:
    for name in _OF_EVENTS:
        if name in inputs:
            found = tf.shape(inputs[name], tf.int64)
            demand = f"`{name}` must have one value for each event, as `event_tags` has lists"
            yield tf.reduce_all(found == shape), demand, found
    now = inputs[s.NOW]
    is_fit = tf.size(now, tf.int64) == num_users
    yield is_fit, "`now` must have one value for each user", tf.shape(now)


def _value_checks(inputs: Mapping[str, tf.Tensor]) -> Iterator[_Check]:
    for name in (s.EVENT_TAGS, s.EVENT_ITEM_ID, s.EVENT_CATEGORY):
        if name in inputs:
            sizes = tf.strings.length(inputs[name])
            demand = f"`{name}` must hold texts of at most {MAX_TEXT_BYTES} bytes"
            yield tf.reduce_all(sizes <= MAX_TEXT_BYTES), demand, tf.reduce_max(sizes)
    clicked, now = inputs[s.EVENT_CLICKED], inputs[s.NOW]
    demand = "`event_clicked` must be 0 or 1"
    yield tf.reduce_all((clicked == 0) | (clicked == 1)), demand, clicked
    if s.EVENT_WEIGHT in inputs:
        weight = inputs[s.EVENT_WEIGHT]
        is_weight = (weight >= 0) & (weight <= weight.dtype.max)  # false for NaN, too
        demand = "`event_weight` must be finite numbers, 0 or more"
        yield tf.reduce_all(is_weight), demand, weight
    _, is_time = _seconds(inputs[s.EVENT_TIME])
    bad = tf.boolean_mask(inputs[s.EVENT_TIME], ~is_time)
    demand = "`event_time` must be seconds since 1970, UTC (or ms, us or ns)"
    yield tf.reduce_all(is_time), demand, bad
    is_now = tf.abs(now) <= LAST_SECOND  # false for NaN, too
    demand = "`now` must be a time in seconds since 1970, UTC, not milliseconds"
    yield tf.reduce_all(is_now), demand, now


def _seconds(times: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts times of any unit to seconds, as `event_times.seconds_of_numbers` does.

    Args:
      times: int64, of any shape.

    Returns:
      The seconds, and bool of the same shape, whether the unit could be told.
    """
    seconds, is_time = times, times <= LAST_SECOND
    for unit in FINE_UNITS:
        of_unit = times // unit
        is_unit = ~is_time & (of_unit >= FIRST_FINE_SECOND) & (of_unit <= LAST_SECOND)
        seconds, is_time = tf.where(is_unit, of_unit, seconds), is_time | is_unit
    return seconds, is_time
