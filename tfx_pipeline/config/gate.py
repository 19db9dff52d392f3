"""The checks that can hold a run: drift between days, and a model that is not good enough."""

import dataclasses
from typing import Annotated, Literal

from trainer.contract import config_bounds as bounds
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

# Labels of a training example whose distributions may be compared, besides its features.
TEXT_LABELS = (LABEL_TAGS, IMPRESSION_TAGS)
NUMBER_LABELS = (LABEL_TAG_WEIGHTS, IMPRESSION_CLICKED, HISTORY_NUM_EVENTS)

_Margin = Annotated[float, bounds.Bound("be above -1", lambda value: value > -1)]


@bounds.checked
@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What a model must show on validation users before it may be pushed (docs/gate.md).

    Attributes:
      baselines: Baselines that the model is compared with: the best of them by P@10 and the best by
        novel P@10. Baselines that a run leaves out are not required.
      rule: Condition on the difference to the best baseline. `not_worse`: the interval of the
        difference is not below 0; `above`: it is above 0.
      min_relative_gain: Relative margin on all truth: a baseline's figure is multiplied by 1 + this
        margin before the comparison.
      min_relative_novel_gain: Relative margin on novel truth, used in the same way.
      confidence: Confidence level of the intervals. Model and baselines are chosen on validation
        users, and the one that is best there by luck looks better than it is: hence 99 % and not
        the usual 95 %.
      min_users: Number of users below which an interval supports no claim.
      too_few_users: Verdict where users are too few for a claim: `hold` the model, or `warn`
        and push it.
      min_relative_distinct: Smallest accepted number of distinct top-10 lists, as a share of the
        fewest that any of the baselines except popularity has (a collapsed model shows here first).
      min_relative_coverage: Smallest accepted number of tags in at least one user's top 10, as a
        share of the fewest that any of these baselines has.
      min_click_gauc: Smallest accepted click GAUC, where the click head is trained.
      max_relative_loss: Largest accepted relative loss of P@10 against the last blessed model.
    """

    # No annotation, so that it is not a key. Read by `trainer.contract.config_loader`.
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
    min_relative_gain: _Margin = 0.0
    min_relative_novel_gain: _Margin = 0.0
    confidence: bounds.ShareBetween = 0.99
    min_users: bounds.AtLeastTwo = 30
    too_few_users: Literal["hold", "warn"] = "hold"
    min_relative_distinct: bounds.Share = 0.5
    min_relative_coverage: bounds.Share = 0.5
    min_click_gauc: bounds.Share = 0.5
    max_relative_loss: bounds.Share = 0.02

    def __post_init__(self) -> None:
        require(bool(self.baselines), "baselines", "not be empty", self.baselines)


@bounds.checked
@dataclasses.dataclass(frozen=True)
class DistributionThreshold:
    """How far the distribution of a feature may move, by one or both of two measures.

    Attributes:
      l_infinity: Largest accepted difference in the share of any one value; for features of
        strings.
      jensen_shannon: Largest accepted Jensen-Shannon divergence, 0 for equal and 1 for disjoint
        distributions; for features of strings and of numbers.
      on_violation: Effect of a larger value. `fail`: nothing is trained or pushed; `warn`: one line
        of output reports it.
    """

    l_infinity: bounds.Share | None = None
    jensen_shannon: bounds.Share | None = None
    on_violation: Literal["fail", "warn"] = "fail"

    def __post_init__(self) -> None:
        require(
            self.l_infinity is not None or self.jensen_shannon is not None,
            "l_infinity",
            "be given, or `jensen_shannon`",
            None,
        )


@bounds.checked
@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """The features whose distributions are compared (docs/daily.md).

    Attributes:
      drift: Threshold by feature name, between the training examples of a day and those of the last
        accepted day before it. Labels and `history_num_events` have names too.
      skew: Threshold by feature name, between logged requests and the training examples of the
        version that is served, checked by `tagtower check-requests`.
    """

    drift: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)
    skew: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)
