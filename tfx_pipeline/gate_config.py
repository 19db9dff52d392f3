"""What holds a run back: drift between days, and a model that is not good enough."""

import dataclasses
from typing import Literal

from trainer.config_loader import require
from trainer.features import (
    HISTORY_NUM_EVENTS,
    IMPRESSION_CLICKED,
    IMPRESSION_TAGS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
)

# What of a training example may be compared beside its features.
TEXT_LABELS = (LABEL_TAGS, IMPRESSION_TAGS)
NUMBER_LABELS = (LABEL_TAG_WEIGHTS, IMPRESSION_CLICKED, HISTORY_NUM_EVENTS)


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What a model must show on validation users before it may be pushed.

    Attributes:
      min_relative_gain: P@10 (all truth) above the best of popularity, own history and their blend,
        relative.
      min_relative_novel_gain: P@10 (novel truth) above popularity, relative.
      min_click_gauc: Click GAUC, where the click head is trained.
      min_distinct_top10: Distinct top-10 lists, as a share of the users (collapse shows here
        first).
      min_coverage_at_10: Share of the tags in at least one user's top 10.
      max_relative_loss: P@10 below the last blessed model's that is still accepted, relative.
    """

    min_relative_gain: float = 0.0
    min_relative_novel_gain: float = 0.0
    min_click_gauc: float = 0.5
    min_distinct_top10: float = 0.2
    min_coverage_at_10: float = 0.02
    max_relative_loss: float = 0.02

    def __post_init__(self):
        for name in (
            "min_click_gauc",
            "min_distinct_top10",
            "min_coverage_at_10",
            "max_relative_loss",
        ):
            value = getattr(self, name)
            require(0 <= value <= 1, name, "be between 0 and 1", value)
        for name in ("min_relative_gain", "min_relative_novel_gain"):
            value = getattr(self, name)
            require(value > -1, name, "be above -1", value)


@dataclasses.dataclass(frozen=True)
class DistributionThreshold:
    """How far the distribution of a feature may move; at least one of the two measures.

    Attributes:
      l_infinity: The largest difference of a value's share that is accepted; for features of
        strings.
      jensen_shannon: The Jensen-Shannon divergence that is accepted, 0 for equal and 1 for disjoint
        distributions; for features of strings and of numbers.
      on_violation: `fail`: nothing is trained nor pushed; `warn`: a line says so.
    """

    l_infinity: float | None = None
    jensen_shannon: float | None = None
    on_violation: Literal["fail", "warn"] = "fail"

    def __post_init__(self):
        measures = {name: getattr(self, name) for name in ("l_infinity", "jensen_shannon")}
        require(
            any(value is not None for value in measures.values()),
            "l_infinity",
            "be given, or `jensen_shannon`",
            None,
        )
        for name, value in measures.items():
            require(value is None or 0 <= value <= 1, name, "be between 0 and 1", value)


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Which distributions of features are compared (docs/daily.md).

    Attributes:
      drift: By name of a feature: between the training examples of the day and those of the day
        before, as far as that was accepted. Labels and `history_num_events` have names too.
      skew: By name of a feature: between logged requests and the training examples of the version
        that serves, by `tagtower check-requests`.
    """

    drift: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)
    skew: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)
