"""One user's events -> the examples made of them: which moments, which part, which labels.

An example is a *snapshot*: a user's features at one time, with all that follows as labels. One
label an example would run the user tower once for every later tag (some 20 to 500 times a user
here) and repeat the same history in every example; a snapshot runs it once. Pure Python and numpy,
no Beam.

A training user has several snapshots at random (seeded) moments, which gives the model short and
long histories alike; one held out has a single one. Every user has a snapshot *now*, after all
events.

Protocol `user_holdout`: users fall into train, validation and test by a hash of their id. A
held-out user is cut at the first moment at or after `cut_fraction` of the events.

Protocol `temporal`: the log is cut twice, for everybody at the same two moments. What a user did
before the first trains; the validation snapshot is at the first, with labels up to the second; the
test snapshot at the second, with labels up to the end of the log. A user has the snapshots of those
parts in which he did something.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfx_pipeline.config import ExamplesConfig
from tfx_pipeline.time_split import TimeSplit
from trainer import features as f
from trainer.history import UserEvents, feature_values, weighted_values


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One example before serialization.

    Attributes:
      split: `train`, `validation`, `test` or `now`.
      values: By feature name: a string, an integer, or a list of strings, integers or floats.
      num_impressions_dropped: Impressions of the label period beyond the cap.
    """

    split: str
    values: dict[str, Any]
    num_impressions_dropped: int = 0


def user_hash(user_id: str, salt: str) -> int:
    """A 64-bit hash of a user, the same on every machine and in every process."""
    digest = hashlib.blake2b(f"{salt}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def user_part(user_id: str, config: ExamplesConfig) -> str:
    """The part of the protocol `user_holdout` that a user falls into."""
    share = user_hash(user_id, f"part:{config.seed}") / 2**64
    if share < config.test_fraction:
        return "test"
    if share < config.test_fraction + config.validation_fraction:
        return "validation"
    return "train"


def cut_time(timestamps: np.ndarray, fraction: float) -> int:
    """The first moment at or after `fraction` of the events; events of one second stay together.

    Args:
      timestamps: int [n], ascending, n at least 1.
      fraction: Between 0 and 1.

    Returns:
      Seconds, UTC: events before it are history, events at or after it are labels.
    """
    return int(timestamps[min(math.ceil(fraction * len(timestamps)), len(timestamps) - 1)])


def training_events(
    user_id: str, events: UserEvents, config: ExamplesConfig, time_split: TimeSplit | None
) -> UserEvents:
    """What training may see of a user: of `user_holdout` all or nothing, of `temporal` the past.

    Args:
      user_id: The user.
      events: All of the user's events.
      config: The parts.
      time_split: Of `temporal`; None: the protocol is `user_holdout`.

    Returns:
      The first events of the user, possibly none.
    """
    if time_split is not None:
        return _events_before(events, time_split.validation_start)
    if len(events) and user_part(user_id, config) == "train":
        return events
    return _first_events(events, 0)


def user_snapshots(
    user_id: str,
    events: UserEvents,
    profile: Mapping[str, str] | None,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    now: int,
    time_split: TimeSplit | None = None,
    *,
    has_older_events: bool = False,
) -> Iterator[Snapshot]:
    """All snapshots of one user.

    Args:
      user_id: The user.
      events: All of the user's events, possibly none.
      profile: The user's row of the `users` table; None: unknown.
      spec: The features.
      config: Moments, parts and caps.
      now: Seconds, UTC, after every event of the log.
      time_split: Of `temporal`; None: the protocol is `user_holdout`.
      has_older_events: Whether events older than `events` were dropped: then the user is no new one
        at any time, whatever is left of the history.

    Yields:
      The snapshots of the user's parts in order of time, then the one *now*.
    """
    rng = np.random.default_rng(user_hash(user_id, f"snapshots:{config.seed}"))
    for part, time, visible in _labelled_moments(user_id, events, config, time_split, rng):
        values = _identity(user_id, time) | feature_values(visible, profile, time, spec)
        labels, dropped = _labels(visible, time, config, rng, is_training=part == "train")
        if has_older_events:
            labels[f.HISTORY_NUM_EVENTS] = max(labels[f.HISTORY_NUM_EVENTS], 1)
        yield Snapshot(part, values | labels, dropped)
    values = _identity(user_id, now) | feature_values(events, profile, now, spec)
    yield Snapshot(f.NOW_SPLIT, values)


def _labelled_moments(
    user_id: str,
    events: UserEvents,
    config: ExamplesConfig,
    time_split: TimeSplit | None,
    rng: np.random.Generator,
) -> Iterator[tuple[str, int, UserEvents]]:
    """Part, time, and the events that may be history (before the time) or labels (the others)."""
    training = training_events(user_id, events, config, time_split)
    if len(training):
        shares = rng.uniform(
            config.min_snapshot_fraction, config.max_snapshot_fraction, config.snapshots_per_user
        )
        for time in sorted({int(training.timestamp[int(s * len(training))]) for s in shares}):
            yield "train", time, training
    if time_split is not None:
        before_test = _events_before(events, time_split.test_start)
        if len(before_test) > len(training):
            yield "validation", time_split.validation_start, before_test
        if len(events) > len(before_test):
            yield "test", time_split.test_start, events
    elif len(events) > len(training):
        part = user_part(user_id, config)
        yield part, cut_time(events.timestamp, config.cut_fraction), events


def _events_before(events: UserEvents, time: int) -> UserEvents:
    return _first_events(events, events.num_before(time))


def _first_events(events: UserEvents, num: int) -> UserEvents:
    return dataclasses.replace(
        events,
        timestamp=events.timestamp[:num],
        clicked=events.clicked[:num],
        weight=events.weight[:num],
        item=events.item[:num],
    )


def _identity(user_id: str, time: int) -> dict[str, Any]:
    return {f.USER_ID: user_id, f.SNAPSHOT_TIME: time}


def _labels(
    events: UserEvents,
    time: int,
    config: ExamplesConfig,
    rng: np.random.Generator,
    is_training: bool,
) -> tuple[dict[str, Any], int]:
    tags = events.attributes["tags"]
    first = events.num_before(time)
    later = np.arange(first, len(events))

    clicked = later[events.clicked[later]]
    codes, counts = weighted_values(tags, events.item[clicked], np.ones(len(clicked)))
    if is_training:
        kept = np.lexsort((codes, -counts))[: config.max_label_tags]
        codes, counts = codes[kept], counts[kept]

    cap = config.max_train_impressions if is_training else config.max_eval_impressions
    shown = later
    if len(later) > cap:
        shown = np.sort(rng.choice(later, size=cap, replace=False))
    impression_codes, position = tags.select(events.item[shown])

    labels = {
        f.LABEL_TAGS: tags.vocabulary[codes].tolist(),
        f.LABEL_TAG_WEIGHTS: counts.tolist(),
        f.IMPRESSION_TAGS: tags.vocabulary[impression_codes].tolist(),
        f.IMPRESSION_NUM_TAGS: np.bincount(position, minlength=len(shown)).tolist(),
        f.IMPRESSION_CLICKED: events.clicked[shown].astype(float).tolist(),
        f.IMPRESSION_WEIGHTS: events.weight[shown].tolist(),
        f.HISTORY_TAGS: [],
        f.HISTORY_TAG_COUNTS: [],
        f.HISTORY_NUM_EVENTS: first,
        f.LABEL_ITEMS: [],
        f.HISTORY_ITEMS: [],
    }
    if not is_training:
        past = np.flatnonzero(events.clicked[:first])
        codes, counts = weighted_values(tags, events.item[past], np.ones(len(past)))
        labels[f.HISTORY_TAGS] = tags.vocabulary[codes].tolist()
        labels[f.HISTORY_TAG_COUNTS] = counts.tolist()
        labels[f.LABEL_ITEMS] = _item_ids(events, clicked)
        labels[f.HISTORY_ITEMS] = _item_ids(events, past)
    return labels, len(later) - len(shown)


def _item_ids(events: UserEvents, rows: np.ndarray) -> list[str]:
    """Distinct items of some events, in order of their ids."""
    items = events.attributes["item_id"]
    codes, _ = items.select(events.item[rows])
    return items.vocabulary[np.unique(codes)].tolist()
