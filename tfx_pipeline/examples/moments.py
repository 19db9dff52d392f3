"""The times at which users become examples, and the part of a log that each belongs to.

A training user has several snapshots at random (seeded) times, which gives the model short and long
histories alike; a held-out user has one snapshot.

Protocol `user_holdout`: a hash of the user id assigns each user to train, validation or test. A
held-out user is cut at the time of the event at `cut_fraction` of the events.

Protocol `temporal`: the log is cut twice, at the same two times for all users. Events before the
first time are for training; the validation snapshot is at the first time, with labels up to the
second; the test snapshot is at the second, with labels up to the end of the log. A user has
snapshots only in the parts in which they have events.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.examples.user_block import UserBlock
from tfx_pipeline.tables.user_hash import user_hash, user_hashes
from trainer.contract.features import SPLITS

# Training snapshots lie between these shares of a user's events. They begin with the first event,
# so that the model learns from short histories too; the last twentieth is left for labels, without
# which a snapshot trains nothing.
SNAPSHOT_SHARES = (0.0, 0.95)

TRAIN, VALIDATION, TEST = range(len(SPLITS))


@dataclasses.dataclass(frozen=True)
class LabelledMoments:
    """Times of snapshots with labels, in order of the users, and by time within a user.

    Attributes:
      part: int [m], position of the part in `SPLITS`.
      user: int [m], position of the user in the block.
      first: int [m], row of the user's first event.
      cut: int [m], row of the first event at or after the time: earlier rows are history.
      end: int [m], row after the last event that may be a label.
      time: int64 [m], time of the snapshot in seconds, UTC.
    """

    part: np.ndarray
    user: np.ndarray
    first: np.ndarray
    cut: np.ndarray
    end: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


class UserGenerators:
    """A random number generator for each user of a block, created at its first use."""

    def __init__(self, user_ids: list[str], seed: int):
        """Initializes with the ids of the users and the seed of the examples."""
        self._user_ids = user_ids
        self._salt = f"snapshots:{seed}"
        self._generators: dict[int, np.random.Generator] = {}

    def of(self, user: int) -> np.random.Generator:
        """Returns the generator of one user: its numbers depend on no other user."""
        if user not in self._generators:
            seed = user_hash(self._user_ids[user], self._salt)
            self._generators[user] = np.random.default_rng(seed)
        return self._generators[user]


def training_users(user_ids: list[str], config: ExamplesConfig) -> list[str]:
    """Returns the users that the protocol `user_holdout` trains on, in the given order."""
    parts = _user_parts(user_ids, config)
    return [user_id for user_id, part in zip(user_ids, parts, strict=True) if part == TRAIN]


def user_part(user_id: str, config: ExamplesConfig) -> str:
    """Returns the part of the protocol `user_holdout` to which a user belongs."""
    return SPLITS[_user_parts([user_id], config)[0]]


def num_events_before(users: UserBlock, time: int) -> np.ndarray:
    """Returns the number of each user's events before a time, int64 [num_users]."""
    before = np.zeros(len(users.events) + 1, np.int64)
    np.cumsum(users.events.timestamp < time, out=before[1:])
    return np.diff(before[users.offsets])


def num_training_events(
    users: UserBlock, config: ExamplesConfig, time_split: TimeSplit | None
) -> np.ndarray:
    """Returns the number of each user's first events that training may see.

    In `user_holdout` they are all or none, in `temporal` those before validation.

    Args:
      users: Users with their events.
      config: Split of users and times.
      time_split: Start times of validation and test in `temporal`; None: the protocol is
        `user_holdout`.

    Returns:
      int64 [num_users], numbers of events.
    """
    if time_split is not None:
        return num_events_before(users, time_split.validation_start)
    parts = _user_parts(users.user_ids.to_pylist(), config)
    return np.where(parts == TRAIN, np.diff(users.offsets), 0)


def labelled_moments(
    users: UserBlock,
    config: ExamplesConfig,
    time_split: TimeSplit | None,
    num_training: np.ndarray,
    generators: UserGenerators,
) -> LabelledMoments:
    """Returns the times of all labelled snapshots of some users.

    Args:
      users: Users with their events.
      config: Number of snapshots, and split of users and times.
      time_split: Start times of validation and test in `temporal`; None: the protocol is
        `user_holdout`.
      num_training: int64 [num_users], result of `num_training_events`.
      generators: Random number generators of the same users.

    Returns:
      The times, in order of the users and by time within a user.
    """
    first, end = users.offsets[:-1], users.offsets[1:]
    first_of_second = _first_of_second(users)
    found = [_training_moments(users, config, num_training, generators, first_of_second)]
    if time_split is not None:
        before_test = num_events_before(users, time_split.test_start)
        for part, known, seen, time in (
            (VALIDATION, num_training, before_test, time_split.validation_start),
            (TEST, before_test, end - first, time_split.test_start),
        ):
            user = np.flatnonzero(seen > known)
            at = np.full(len(user), time)
            found.append(
                _Moments(part, user, first[user] + known[user], first[user] + seen[user], at)
            )
    else:
        parts = _user_parts(users.user_ids.to_pylist(), config)
        for part in (VALIDATION, TEST):
            user = np.flatnonzero((end > first) & (parts == part))
            num_events = end[user] - first[user]
            place = np.ceil(config.cut_fraction * num_events).astype(np.int64)
            cut = first_of_second[first[user] + np.minimum(place, num_events - 1)]
            found.append(_Moments(part, user, cut, end[user], users.events.timestamp[cut]))
    user, cut, last, at = (np.concatenate([one[i] for one in found]) for i in range(1, 5))
    part_of = np.repeat([one.part for one in found], [len(one.user) for one in found])
    order = np.lexsort((part_of, user))
    return LabelledMoments(
        part_of[order], user[order], first[user[order]], cut[order], last[order], at[order]
    )


class _Moments(NamedTuple):
    """Snapshot times of one part; `cut`, `end` and `time` as in `LabelledMoments`."""

    part: int
    user: np.ndarray
    cut: np.ndarray
    end: np.ndarray
    time: np.ndarray


def _training_moments(
    users: UserBlock,
    config: ExamplesConfig,
    num_training: np.ndarray,
    generators: UserGenerators,
    first_of_second: np.ndarray,
) -> _Moments:
    training = np.flatnonzero(num_training)
    shares = np.empty((len(training), config.snapshots_per_user))
    for row, user in enumerate(training.tolist()):
        shares[row] = generators.of(user).uniform(*SNAPSHOT_SHARES, config.snapshots_per_user)
    places = (shares * num_training[training, None]).astype(np.int64)
    cut = np.unique(first_of_second[users.offsets[training, None] + places])
    whose = np.searchsorted(users.offsets, cut, side="right") - 1
    end = users.offsets[whose] + num_training[whose]
    return _Moments(TRAIN, whose, cut, end, users.events.timestamp[cut])


def _first_of_second(users: UserBlock) -> np.ndarray:
    """Returns for each event the row of the same user's first event in the same second."""
    times = users.events.timestamp
    is_first = np.ones(len(times), bool)
    is_first[1:] = times[1:] != times[:-1]
    first, end = users.offsets[:-1], users.offsets[1:]
    is_first[first[first < end]] = True
    return np.maximum.accumulate(np.where(is_first, np.arange(len(times)), 0))


def _user_parts(user_ids: list[str], config: ExamplesConfig) -> np.ndarray:
    """Returns the users' parts in the protocol `user_holdout`, int [num_users]."""
    share = user_hashes(user_ids, f"part:{config.seed}").astype(np.float64) / 2**64
    parts = np.full(len(user_ids), TRAIN)
    parts[share < config.test_fraction + config.validation_fraction] = VALIDATION
    parts[share < config.test_fraction] = TEST
    return parts
