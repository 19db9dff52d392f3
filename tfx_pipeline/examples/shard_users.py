"""Gathers the batches that were shuffled to one shard into its users, in order of their ids.

No Beam here.
"""

import dataclasses
import json
from collections.abc import Iterable

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import EVENT_DTYPE
from tfx_pipeline.examples.user_batches import PROFILE_PREFIX, unpack_events
from tfx_pipeline.examples.user_block import PROFILE_TYPES, UserBlock
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.row_batches import concat_rejected, rejected_rows
from trainer.contract.arrow import pa
from trainer.contract.features import ProfileFeature
from trainer.contract.history import UserEvents
from trainer.contract.list_column import ListColumn, offsets_of


@dataclasses.dataclass(frozen=True)
class ShardUsers:
    """The users of a shard, with counts of what was left out.

    Attributes:
      users: All users of the shard, with events or only with a row in the users table.
      num_duplicates: Number of exact duplicates dropped. Beyond the cap an old duplicate may be
        counted as dropped.
      num_dropped: Number of oldest events dropped because of the cap.
      has_profile: bool [num_users], whether a user is in the users table.
      rejected: Further rows of users who already have a row, `REJECTED_SCHEMA`.
    """

    users: UserBlock
    num_duplicates: int
    num_dropped: int
    has_profile: np.ndarray
    rejected: pa.RecordBatch

    @property
    def num_without_profile(self) -> int:
        """Number of users with events who are not in the users table."""
        return int(np.count_nonzero(~self.has_profile))

    @property
    def num_without_events(self) -> int:
        """Number of users of the users table without a usable interaction."""
        return int(np.count_nonzero(self.users.offsets[1:] == self.users.offsets[:-1]))

    @property
    def num_at_one_time(self) -> int:
        """Number of users with several events, all of them in one second."""
        first, end = self.users.offsets[:-1], self.users.offsets[1:]
        several = np.flatnonzero((end - first > 1) & ~self.users.has_older_events)
        times = self.users.events.timestamp
        return int(np.count_nonzero(times[first[several]] == times[end[several] - 1]))


def gather_users(
    event_batches: list[pa.RecordBatch],
    profile_batches: list[pa.RecordBatch],
    columns: dict[str, ListColumn],
    features: Iterable[ProfileFeature],
    max_events: int,
) -> ShardUsers:
    """Combines the events and the profile features of each user.

    Args:
      event_batches: Batches of `user_batches.pack_events`; emptied, so that memory holds the events
        only once.
      profile_batches: Batches of `user_batches.pack_profiles`.
      columns: Attributes of all items, by name.
      features: Profile features.
      max_events: Largest number of latest events kept per user.

    Returns:
      The users; the result does not depend on the order of the batches.
    """
    nobody = pa.array([], pa.string())
    found = [batch.column("user_id") for batch in (*event_batches, *profile_batches)]
    everyone = pa.chunked_array([*found, nobody]).combine_chunks().dictionary_encode()
    order = pc.sort_indices(everyone.dictionary)
    user_ids = everyone.dictionary.take(order)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    user_of_row = rank[everyone.indices.to_numpy()]

    num_event_rows = sum(batch.num_rows for batch in event_batches)
    events, offsets, duplicates, dropped = _events(
        event_batches, user_of_row[:num_event_rows], len(user_ids), columns, max_events
    )
    profile, is_known, rejected = _profiles(
        profile_batches, user_of_row[num_event_rows:], user_ids, features
    )
    return ShardUsers(
        UserBlock(user_ids, profile, events, offsets, dropped > 0),
        int(duplicates.sum()),
        int(dropped.sum()),
        is_known,
        rejected,
    )


def _events(
    batches: list[pa.RecordBatch],
    user_of_row: np.ndarray,
    num_users: int,
    columns: dict[str, ListColumn],
    max_events: int,
) -> tuple[UserEvents, np.ndarray, np.ndarray, np.ndarray]:
    """Returns ordered events, their offsets by user, and duplicates and dropped events by user."""
    duplicates = np.zeros(num_users, np.int64)
    dropped = np.zeros(num_users, np.int64)
    parts: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    row = 0
    for batch in batches:
        packed, num_events = unpack_events(batch)
        parts.append(packed)
        lengths.append(num_events)
        users = user_of_row[row : row + batch.num_rows]
        # A user has at most one row in a batch.
        duplicates[users] += batch.column("num_duplicates").to_numpy()
        dropped[users] += batch.column("num_dropped").to_numpy()
        row += batch.num_rows
    batches.clear()
    user = np.repeat(user_of_row, np.concatenate([np.zeros(0, np.int64), *lengths]))
    fields = _fields(parts, len(user))
    kept = latest_distinct(fields, user, num_users, max_events)
    duplicates += kept.num_duplicates
    dropped += kept.num_dropped
    events = UserEvents(
        timestamp=fields["timestamp"][kept.rows],
        clicked=fields["clicked"][kept.rows].astype(bool),
        weight=fields["weight"][kept.rows],
        item=fields["item"][kept.rows],
        attributes=columns,
    )
    return events, offsets_of(kept.lengths), duplicates, dropped


def _fields(parts: list[np.ndarray], num_events: int) -> dict[str, np.ndarray]:
    """Splits packed events into one array per field; frees `parts` on the way."""
    fields = {name: np.empty(num_events, EVENT_DTYPE[name]) for name in EVENT_DTYPE.names or ()}
    row = 0
    for place, part in enumerate(parts):
        for name, values in fields.items():
            values[row : row + len(part)] = part[name]
        row += len(part)
        parts[place] = part[:0]
    return fields


def _profiles(
    batches: list[pa.RecordBatch],
    user_of_row: np.ndarray,
    user_ids: pa.Array,
    features: Iterable[ProfileFeature],
) -> tuple[dict[str, pa.Array], np.ndarray, pa.RecordBatch]:
    """Returns columns of profile features by user, whether a user has a row, and surplus rows."""
    num_rows = np.bincount(user_of_row, minlength=len(user_ids))
    row_of_user = np.full(len(user_ids), -1, np.int64)
    row_of_user[user_of_row] = np.arange(len(user_of_row))
    rejected = []
    if (num_rows > 1).any():
        rows = [row for batch in batches for row in _profile_rows(batch)]
        for user in np.flatnonzero(num_rows > 1).tolist():
            # Of several different rows for one user the smallest is kept, so that the order of
            # files does not decide.
            same = sorted(np.flatnonzero(user_of_row == user).tolist(), key=rows.__getitem__)
            row_of_user[user] = same[0]
            for profile, file, row in (rows[place] for place in same[1:]):
                values = json.dumps({"user_id": user_ids[user].as_py(), **json.loads(profile)})
                rejected.append(
                    rejected_rows("users", file, [row], [schema.DUPLICATE_USER], [values])
                )
    is_known = row_of_user >= 0
    wanted = pa.array(row_of_user, mask=~is_known)
    profile = {}
    for feature in features:
        chunks = [_column(batch, feature) for batch in batches]
        column = pa.chunked_array(chunks, PROFILE_TYPES[feature.type]).combine_chunks().take(wanted)
        profile[feature.name] = column.fill_null("") if feature.type == "text" else column
    return profile, is_known, concat_rejected(rejected)


def _column(batch: pa.RecordBatch, feature: ProfileFeature) -> pa.Array:
    place = batch.schema.get_field_index(PROFILE_PREFIX + feature.name)
    if place < 0:
        return pa.nulls(batch.num_rows, PROFILE_TYPES[feature.type])
    return batch.column(place)


def _profile_rows(batch: pa.RecordBatch) -> list[tuple[str, str, int]]:
    """Returns (profile features as JSON, file, row number) of each row."""
    found = []
    for row in batch.to_pylist():
        file, number = row["file"], row["row"]
        profile = {
            name[len(PROFILE_PREFIX) :]: value
            for name, value in row.items()
            if name.startswith(PROFILE_PREFIX)
        }
        found.append((json.dumps(profile, sort_keys=True), file, number))
    return found
