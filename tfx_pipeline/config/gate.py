"""What holds a run back: drift between days, and a model that is not good enough."""

import dataclasses
from typing import Literal

from trainer.contract.config_loader import RemovedKey, require
from trainer.contract.features import (
    HISTORY_NUM_EVENTS,
    IMPRESSION_CLICKED,
    IMPRESSION_TAGS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
)

GateBaseline = Literal[
    "ease_own_history", "ease", "neighbours", "blend", "own_history", "shown", "popularity"
]

# What of a training example may be compared beside its features.
TEXT_LABELS = (LABEL_TAGS, IMPRESSION_TAGS)
NUMBER_LABELS = (LABEL_TAG_WEIGHTS, IMPRESSION_CLICKED, HISTORY_NUM_EVENTS)


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What a model must show on validation users before it may be pushed (docs/gate.md).

    Attributes:
      baselines: Those that the model faces: by P@10 and by novel P@10 the best of them. Those that
        are left out in a run are not asked for.
      rule: How it faces the best one. `not_worse`: the interval of the difference is not below 0;
        `above`: it is above 0.
      min_relative_gain: Margin on all truth: a baseline's figure counts for as much more, relative.
      min_relative_novel_gain: The same on novel truth.
      confidence: Level of the intervals. Model and baselines are chosen on validation users, and
        the best of them by luck looks better there than it is: hence 99 %, not the usual 95 %.
      min_users: Users below whom an interval is no claim.
      too_few_users: Where users are too few for a claim: `hold` the model, or push it and `warn`.
      min_relative_distinct: Distinct top-10 lists, as a share of the fewest that one of the
        baselines but popularity has (collapse shows here first).
      min_relative_coverage: Tags in at least one user's top 10, as a share of the fewest that one
        of these baselines has.
      min_click_gauc: Click GAUC, where the click head is trained.
      max_relative_loss: P@10 below the last blessed model's that is still accepted, relative.
    """

    # Without a type, so that it is no key. Read by `trainer.contract.config_loader`.
    REMOVED_KEYS = {
        "min_coverage_at_10": RemovedKey(
            "Coverage is compared with the baselines' now: `gate.min_relative_coverage`."
        ),
        "min_distinct_top10": RemovedKey(
            "Lists are compared with the baselines' now: `gate.min_relative_distinct`."
        ),
    }

    baselines: tuple[GateBaseline, ...] = (
        "ease_own_history",
        "ease",
        "neighbours",
        "blend",
        "own_history",
        "popularity",
    )
    rule: Literal["not_worse", "above"] = "not_worse"
    min_relative_gain: float = 0.0
    min_relative_novel_gain: float = 0.0
    confidence: float = 0.99
    min_users: int = 30
    too_few_users: Literal["hold", "warn"] = "hold"
    min_relative_distinct: float = 0.5
    min_relative_coverage: float = 0.5
    min_click_gauc: float = 0.5
    max_relative_loss: float = 0.02

    def __post_init__(self):
        require(bool(self.baselines), "baselines", "not be empty", self.baselines)
        for name in (
            "min_relative_distinct",
            "min_relative_coverage",
            "min_click_gauc",
            "max_relative_loss",
        ):
            value = getattr(self, name)
            require(0 <= value <= 1, name, "be between 0 and 1", value)
        require(0 < self.confidence < 1, "confidence", "be above 0 and below 1", self.confidence)
        for name in ("min_relative_gain", "min_relative_novel_gain"):
            value = getattr(self, name)
            require(value > -1, name, "be above -1", value)
        require(self.min_users >= 2, "min_users", "be at least 2", self.min_users)


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
