"""The canonical order of events and the latest of them, for all users at once, in numpy.

Keeping a user's greatest n distinct events is associative and commutative: a part of a log can be
cut to the cap before the shuffle, and the result does not depend on how the log was divided into
parts. So a user with a million events costs the shuffle no more than the cap for each part.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from trainer.contract.list_column import concatenated_ranges, offsets_of

Fields = np.ndarray | Mapping[str, np.ndarray]

_KEY_BITS = 63


class LatestRows(NamedTuple):
    """The events that are kept, and how many are left out.

    Attributes:
      rows: int [num_kept], positions in the events, user by user, in canonical order.
      lengths: int [num_users], number of events kept.
      num_duplicates: int [num_users], number of exact duplicates left out. Beyond the cap an old
        duplicate may be counted as dropped.
      num_dropped: int [num_users], number of oldest events left out because of the cap.
    """

    rows: np.ndarray
    lengths: np.ndarray
    num_duplicates: np.ndarray
    num_dropped: np.ndarray


def latest_distinct(
    events: Fields, user: np.ndarray, num_users: int, max_events: int
) -> LatestRows:
    """Selects the latest distinct events of each user.

    Args:
      events: `EVENT_DTYPE` [n], or its fields by name, in any order.
      user: int [n], user of each event, from 0 to below `num_users`.
      num_users: Number of users.
      max_events: Largest number of events kept per user.

    Returns:
      The kept events, in the order of user, time, item, click and weight.
    """
    order = _canonical_order(events, user)
    is_repeated = np.zeros(len(order), bool)
    is_repeated[1:] = user[order[1:]] == user[order[:-1]]
    for name in ("timestamp", "item", "clicked", "weight"):
        ordered = events[name][order]
        is_repeated[1:] &= ordered[1:] == ordered[:-1]
    if is_repeated.any():
        num_duplicates = np.bincount(user[order[is_repeated]], minlength=num_users)
        order = order[~is_repeated]
    else:
        num_duplicates = np.zeros(num_users, np.int64)
    lengths = np.bincount(user, minlength=num_users) - num_duplicates
    kept = np.minimum(lengths, max_events)
    if (kept < lengths).any():
        ends = offsets_of(lengths)[1:]
        order = order[concatenated_ranges(ends - kept, kept)[1]]
    return LatestRows(order, kept, num_duplicates, lengths - kept)


def _canonical_order(events: Fields, user: np.ndarray) -> np.ndarray:
    """Returns the positions in the order of user, time, item, click and weight."""
    if len(user) < 2:
        return np.arange(len(user))
    times = events["timestamp"].astype(np.int64)
    times -= times.min()
    time_bits = int(times.max()).bit_length()
    if time_bits + int(user.max()).bit_length() > _KEY_BITS:
        return _sorted_rows(events, (times, user), np.arange(len(user)))
    # User and time are put into one integer: sorting it is many times as fast as sorting by five
    # fields, and few events share both.
    keys = (user.astype(np.int64) << time_bits) | times
    order = np.argsort(keys)
    keys = keys[order]
    is_tied = np.zeros(len(keys), bool)
    is_tied[1:] = keys[1:] == keys[:-1]
    is_tied[:-1] |= is_tied[1:]
    tied = np.flatnonzero(is_tied)
    if len(tied):
        order[tied] = _sorted_rows(events, (keys[tied],), order[tied])
    return order


def _sorted_rows(events: Fields, last_keys: tuple[np.ndarray, ...], rows: np.ndarray) -> np.ndarray:
    fields = (events[name][rows] for name in ("weight", "clicked", "item"))
    return rows[np.lexsort((*fields, *last_keys))]
