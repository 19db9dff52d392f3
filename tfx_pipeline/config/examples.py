"""How tables become point-in-time examples: times, splits and limits."""

import dataclasses
from typing import Annotated, Literal

from tfx_pipeline.config.utc_times import utc_seconds
from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import RemovedKey, require

_Fraction = Annotated[float, bounds.Bound("be between 0 and 1", lambda value: 0 < value < 1)]


@bounds.checked
@dataclasses.dataclass(frozen=True)
class ExamplesConfig:
    """How tables become point-in-time examples.

    Attributes:
      split: Protocol of the splits. `user_holdout`: a hash of the user id assigns each user to
        train, validation or test, and a held-out user's events are cut in time. `temporal`: the
        events before a time are for training, the next stretch for validation, the last one for
        test; a user may be in all three.
      seed: Seed of the users' splits, of the times of training snapshots and of the sampling of
        impressions. The run's own seed does not change the examples, so that runs with different
        seeds are compared on the same examples.
      validation_fraction: Share held out for validation: of the users, or, in `temporal`, of the
        log's events (the latest ones before those of the test).
      test_fraction: Share held out for test: of the users, or, in `temporal`, of the log's events
        (the latest ones).
      validation_start: Start of validation in `temporal`, in place of the fractions: an ISO 8601
        date or time, UTC unless it has a zone (`2019-11-13` or `2019-11-13T06:00:00`). Given
        together with `test_start`; null: by the fractions.
      test_start: Start of test in `temporal`, in the form of `validation_start`; null: by the
        fractions.
      validation_days: Number of days for validation in `temporal` with a `data.window`, in place of
        the fractions: those before the days of the test. Given together with `test_days`; null: by
        the fractions.
      test_days: Number of days for test: the last days of the window; null: by the fractions.
      cut_fraction: Fraction of a held-out user's events before the cut, in `user_holdout`: events
        before it are history, those after it labels.
      snapshots_per_user: Number of training snapshots per user, at random times within the first 95
        % of the user's events (in `temporal`, of those before validation).
      max_events_per_user: Number of latest events kept per user. In `temporal` the events from the
        start of validation on count too: a user with that many of them yields no training snapshot.
      max_label_tags: Number of most frequent label tags kept per training snapshot.
      max_train_impressions: Number of impressions sampled per training snapshot for the click head.
      max_eval_impressions: Number of impressions sampled per held-out user for the click head.
      num_shards: Number of output files per split. A worker holds the events of a shard in memory,
        some 100 bytes each (the local engine holds one shard for each core): up to five million
        events a shard fit well.
    """

    # No annotation, so that it is not a key. Read by `trainer.contract.config_loader`.
    REMOVED_KEYS = {
        "max_snapshot_fraction": RemovedKey(
            "Leave it out: training snapshots lie within the first 95 % of a user's events.", 0.95
        ),
        "min_snapshot_fraction": RemovedKey(
            "Leave it out: training snapshots begin with a user's first event.", 0.0
        ),
    }

    split: Literal["user_holdout", "temporal"] = "user_holdout"
    seed: int = 0
    validation_fraction: _Fraction = 0.1
    test_fraction: _Fraction = 0.2
    validation_start: str | None = None
    test_start: str | None = None
    validation_days: int | None = None
    test_days: int | None = None
    cut_fraction: _Fraction = 0.8
    snapshots_per_user: bounds.PositiveInteger = 6
    max_events_per_user: bounds.PositiveInteger = 10_000
    max_label_tags: bounds.PositiveInteger = 2_000
    max_train_impressions: bounds.PositiveInteger = 64
    max_eval_impressions: bounds.PositiveInteger = 1_000
    num_shards: bounds.PositiveInteger = 4

    def __post_init__(self) -> None:
        held_out = self.validation_fraction + self.test_fraction
        require(held_out < 1, "test_fraction", "leave something to train on", self.test_fraction)
        self._check_times()
        self._check_days()

    def _check_times(self) -> None:
        times = {}
        for name in ("validation_start", "test_start"):
            text = getattr(self, name)
            require(
                text is None or self.split == "temporal",
                name,
                "be null unless `split` is temporal",
                text,
            )
            if text is not None:
                try:
                    times[name] = utc_seconds(text)
                except ValueError as error:
                    raise ValueError(
                        f"`{name}` must be an ISO 8601 date or time. Received: {name}={text!r}."
                    ) from error
        require(
            len(times) != 1,
            "test_start",
            "be given together with `validation_start`",
            self.test_start,
        )
        if times:
            require(
                times["validation_start"] < times["test_start"],
                "test_start",
                f"be later than `validation_start` ({self.validation_start})",
                self.test_start,
            )

    def _check_days(self) -> None:
        days = (self.validation_days, self.test_days)
        if days == (None, None):
            return
        for name in ("validation_days", "test_days"):
            value = getattr(self, name)
            require(
                value is not None and value >= 1,
                name,
                "be a positive integer, like the other",
                value,
            )
        require(
            self.split == "temporal", "test_days", "be null unless `split` is temporal", days[1]
        )
        require(
            self.test_start is None,
            "test_days",
            "be null where `validation_start` and `test_start` are given",
            days[1],
        )
