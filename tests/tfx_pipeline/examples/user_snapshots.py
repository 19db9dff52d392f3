"""The snapshots of one user at a time, as Python values."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.columns import Texts
from tfx_pipeline.examples.snapshots import SnapshotMaker
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.examples.user_block import PROFILE_TYPES, UserBlock
from trainer.contract import features as f
from trainer.contract.history import UserEvents, profile_value


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One example before serialization.

    Attributes:
      split: `train`, `validation`, `test` or `now`.
      values: By feature name a string, an integer, or a list of strings, integers or floats.
      num_impressions_dropped: Impressions of the label period beyond the cap.
    """

    split: str
    values: dict[str, Any]
    num_impressions_dropped: int = 0


def user_snapshots(
    user_id: str,
    events: UserEvents,
    profile: Mapping[str, Any] | None,
    spec: f.FeatureSpec,
    config: ExamplesConfig,
    now: int,
    time_split: TimeSplit | None = None,
    *,
    has_older_events: bool = False,
) -> Iterator[Snapshot]:
    """Yields all snapshots of one user, by a block with no other user.

    Args:
      user_id: Id of the user.
      events: All of the user's events, possibly none.
      profile: The user's row of the `users` table; None: unknown.
      spec: Features of a snapshot.
      config: Moments, parts and caps.
      now: Time of the snapshot *now*, seconds UTC, after every event of the log.
      time_split: Split by time of `temporal`; None: the protocol is `user_holdout`.
      has_older_events: Whether events older than `events` were dropped: then the user is no new one
        at any time, whatever is left of the history.

    Yields:
      The snapshots of the user's parts in order of time, then the one *now*.
    """
    profile = profile or {}
    users = UserBlock(
        user_ids=pa.array([user_id]),
        profile={
            p.name: pa.array([profile_value(p, profile)], PROFILE_TYPES[p.type], from_pandas=True)
            for p in spec.profile
        },
        events=events,
        offsets=np.array([0, len(events)]),
        has_older_events=np.array([has_older_events]),
    )
    vocabularies = {name: Texts(column.vocabulary) for name, column in events.attributes.items()}
    found = SnapshotMaker(vocabularies, spec, config, now, time_split).snapshots(users)
    for row, part in enumerate(found.part.tolist()):
        values = {name: column.value(row) for name, column in found.labelled.items()}
        yield Snapshot(f.SPLITS[part], values, int(found.num_impressions_dropped[row]))
    yield Snapshot(f.NOW_SPLIT, {name: column.value(0) for name, column in found.now.items()})
