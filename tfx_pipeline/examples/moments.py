"""Which moments of users become examples, and which part of a log each belongs to.

A training user has several snapshots at random (seeded) moments, which gives the model short and
long histories alike; one held out has a single one.

Protocol `user_holdout`: users fall into train, validation and test by a hash of their id. A
held-out user is cut at the first moment at or after `cut_fraction` of the events.

Protocol `temporal`: the log is cut twice, for everybody at the same two moments. What a user did
before the first trains; the validation snapshot is at the first, with labels up to the second; the
test snapshot at the second, with labels up to the end of the log. A user has the snapshots of those
parts in which he did something.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.examples.user_block import UserBlock
from tfx_pipeline.tables.user_hash import user_hash, user_hashes
from trainer.contract.features import SPLITS

# Training snapshots lie between these shares of a user's events. From the first event on, so that
# users with a short history are learned as well; the last twentieth is left for labels, without
# which a snapshot trains nothing.
SNAPSHOT_SHARES = (0.0, 0.95)

TRAIN, VALIDATION, TEST = range(len(SPLITS))


@dataclasses.dataclass(frozen=True)
class LabelledMoments:
    """Moments with labels, in order of the users, each user's in order of time.

    Attributes:
      part: int [m], position in `SPLITS`.
      user: int [m], position in the block.
      first: int [m], row of the user's first event.
      cut: int [m], row of the first event at or after the time: before it is history.
      end: int [m], row after the last event that may be a label.
      time: int64 [m], seconds, UTC.
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
    """A generator of random numbers for each user of a block, begun when it is first asked for."""

    def __init__(self, user_ids: list[str], seed: int):
        """Initializes with the users."""
        self._user_ids = user_ids
        self._salt = f"snapshots:{seed}"
        self._generators: dict[int, np.random.Generator] = {}

    def of(self, user: int) -> np.random.Generator:
        """The generator of one user: a user's numbers depend on no other user."""
        if user not in self._generators:
            seed = user_hash(self._user_ids[user], self._salt)
            self._generators[user] = np.random.default_rng(seed)
        return self._generators[user]


def training_users(user_ids: list[str], config: ExamplesConfig) -> list[str]:
    """Those users whom the protocol `user_holdout` trains on, in the same order."""
    parts = _user_parts(user_ids, config)
    return [user_id for user_id, part in zip(user_ids, parts, strict=True) if part == TRAIN]


def user_part(user_id: str, config: ExamplesConfig) -> str:
    """The part of the protocol `user_holdout` that a user falls into."""
    return SPLITS[_user_parts([user_id], config)[0]]


def cut_time(timestamps: np.ndarray, fraction: float) -> int:
    """The first moment at or after `fraction` of the events; events of one second stay together.

    Args:
      timestamps: int [n], ascending, n at least 1.
      fraction: Between 0 and 1.

    Returns:
      Seconds, UTC: events before it are history, events at or after it are labels.
    """
    return int(timestamps[min(math.ceil(fraction * len(timestamps)), len(timestamps) - 1)])


def num_events_before(users: UserBlock, time: int) -> np.ndarray:
    """Number of events of each user before a time, int64 [num_users]."""
    before = np.zeros(len(users.events) + 1, np.int64)
    np.cumsum(users.events.timestamp < time, out=before[1:])
    return np.diff(before[users.offsets])


def num_training_events(
    users: UserBlock, config: ExamplesConfig, time_split: TimeSplit | None
) -> np.ndarray:
    """What training may see of users: of `user_holdout` all or nothing, of `temporal` the past.

    Args:
      users: The users.
      config: The parts.
      time_split: Of `temporal`; None: the protocol is `user_holdout`.

    Returns:
      int64 [num_users], how many of a user's first events.
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
    """All moments of some users but *now*.

    Args:
      users: The users.
      config: Moments and parts.
      time_split: Of `temporal`; None: the protocol is `user_holdout`.
      num_training: From `num_training_events`.
      generators: Of the same users.

    Returns:
      The moments.
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
    """Moments of one part; `cut`, `end` and `time` as of `LabelledMoments`."""

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
    """Of each event, the row of the first event of the same user in the same second."""
    times = users.events.timestamp
    is_first = np.ones(len(times), bool)
    is_first[1:] = times[1:] != times[:-1]
    first, end = users.offsets[:-1], users.offsets[1:]
    is_first[first[first < end]] = True
    return np.maximum.accumulate(np.where(is_first, np.arange(len(times)), 0))


def _user_parts(user_ids: list[str], config: ExamplesConfig) -> np.ndarray:
    """Parts of the protocol `user_holdout`, int [num_users]."""
    share = user_hashes(user_ids, f"part:{config.seed}").astype(np.float64) / 2**64
    parts = np.full(len(user_ids), TRAIN)
    parts[share < config.test_fraction + config.validation_fraction] = VALIDATION
    parts[share < config.test_fraction] = TEST
    return parts
