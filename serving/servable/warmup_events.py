"""Events of the users in warm-up records, in both forms in which signatures take them."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from trainer.contract import signatures as s

_NOW = 1_000_000_000  # seconds since 1970


def warmup_events(
    specs: Mapping[str, tf.TensorSpec], num_users: int, tags: Sequence[bytes]
) -> dict[str, tf.Tensor]:
    """Makes the events of users who clicked on one item for each of some tags.

    Args:
      specs: Inputs of a signature by name.
      num_users: Number of users.
      tags: The tags; empty: the users have no events, or in the flat form one without a tag. The
        flat form takes the first tag alone.

    Returns:
      The inputs that describe events and the time; none where the signature takes no events.
    """
    if s.EVENT_TAGS not in specs:
        return {}
    if s.NUM_EVENTS in specs:
        # One event of one tag for each user: a server that batches refuses inputs with different
        # numbers of rows, and a version whose warm-up is refused does not load there.
        tags = list(tags[:1]) or [b""]
    names = [b"%d" % i for i in range(len(tags))]
    times = [_NOW - 1 - i for i in range(len(tags))]
    of_one = {
        s.EVENT_TAGS: tf.constant(list(tags), tf.string, [len(tags), 1]),
        s.EVENT_ITEM_ID: tf.constant(names, tf.string, [len(tags)]),
        s.EVENT_CLICKED: tf.ones([len(tags)], tf.int64),
        s.EVENT_TIME: tf.constant(times, tf.int64, [len(tags)]),
        s.EVENT_CATEGORY: tf.fill([len(tags)], ""),
        s.EVENT_WEIGHT: tf.ones([len(tags)], tf.float32),
    }
    now = {s.NOW: tf.fill([num_users], tf.constant(_NOW, tf.float64))}
    lists = {
        name: tf.repeat(column[tf.newaxis], num_users, axis=0)
        for name, column in of_one.items()
        if name in specs
    }
    if s.NUM_EVENTS not in specs:
        return lists | now
    flat = {name: tf.reshape(column, [-1]) for name, column in lists.items()}
    per_user = tf.fill([num_users], tf.constant(len(tags), tf.int64))
    per_event = tf.ones([num_users * len(tags)], tf.int64)
    return flat | now | {s.NUM_EVENTS: per_user, s.EVENT_NUM_TAGS: per_event}
