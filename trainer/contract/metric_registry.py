"""The metrics of the protocol in docs/model.md as data: name, formula, range, direction and label.

Every other module takes names and labels of metrics from here: the evaluation, the gate, early
stopping, the tables of a terminal, studies, and docs/report.md. Nothing is computed here:
`trainer.evaluation.metrics` has the formulas as code.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Final, Literal

CUTS = (1, 5, 10, 20, 50)
PROFILE_CUTS = (1, 3, 5, 10)  # cuts of the online figures, which use a short list of tags
NUM_ITEMS = 100  # items recalled for a user

# Prefixes of metrics that look at a part of the truth: novel tags, head tags, tail tags.
NOVEL, HEAD, TAIL = "novel_", "head_tags.", "tail_tags."
TRUTHS = (NOVEL, HEAD, TAIL)
# Slices by history length: name, and range of the number of events before the snapshot.
HISTORY_SLICES = (
    ("known_users", 1, math.inf),
    ("new_users", 0, 1),
    ("history_1_to_49", 1, 50),
    ("history_50_to_199", 50, 200),
    ("history_200_or_more", 200, math.inf),
)
# Prefixes of calibration metrics, and the suffix of those of probabilities before calibration.
OUTCOMES = ("click", "tag")
UNCALIBRATED = "_uncalibrated"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric, or a count that stands beside metrics.

    Attributes:
      name: Name in a report, without its cut.
      label: Short name in tables, without its cut.
      unit: Unit or range of the values.
      formula: Definition, as a sentence.
      over: What the value is taken over, as the end of the sentence "It is ..."; empty: a count.
      better: Whether `more` or `less` is better; None: the value alone is neither good nor bad.
      cuts: Lengths of the list at which the metric is computed; empty: the metric has no cut.
      has_truths: Whether it is computed on every part of the truth as well (`TRUTHS`).
      has_slices: Whether it is computed on every slice of the users as well (`HISTORY_SLICES`).
    """

    name: str
    label: str
    unit: str
    formula: str
    over: str = ""
    better: Literal["more", "less"] | None = None
    cuts: tuple[int, ...] = ()
    has_truths: bool = False
    has_slices: bool = False

    def at(self, k: int, truth: str = "") -> str:
        """Returns the name in a report at a cut, on all truth or on one of `TRUTHS`."""
        return f"{truth}{self.name}_at_{k}"

    def names(self, truths: tuple[str, ...] = ()) -> Iterator[str]:
        """Yields the names in a report at every cut, on all truth and on these parts of it."""
        for truth in ("", *(truths if self.has_truths else ())):
            yield from (self.at(k, truth) for k in self.cuts) if self.cuts else (truth + self.name,)


_WITH_TRUTH = "the mean over users with a truth"
_IMPRESSIONS = "taken over the impressions of the users, by their weights"

PRECISION = Metric(
    "precision",
    "P",
    "share",
    "The share of the first k tags that are in the truth; a shorter list counts as k tags.",
    _WITH_TRUTH,
    "more",
    CUTS,
    has_truths=True,
    has_slices=True,
)
RECALL = Metric(
    "recall",
    "R",
    "share",
    "The share of the truth that is among the first k tags.",
    _WITH_TRUTH,
    "more",
    CUTS,
    has_truths=True,
    has_slices=True,
)
NDCG = Metric(
    "ndcg",
    "NDCG",
    "0 to 1",
    "The gain of the first k tags, 1 / log2(rank + 1) for each tag that is in the truth, over the "
    "gain of an ideal list.",
    _WITH_TRUTH,
    "more",
    CUTS,
    has_truths=True,
    has_slices=True,
)
NUM_USERS = Metric(
    "num_users",
    "users",
    "users",
    "The number of users with a truth.",
    has_truths=True,
    has_slices=True,
)
NUM_USERS_WITHOUT_TRUTH = Metric(
    "num_users_without_truth",
    "users without truth",
    "users",
    "The number of users without a truth, who are left out of the means.",
    has_truths=True,
    has_slices=True,
)
DISTINCT_LISTS = Metric(
    "distinct_top10",
    "distinct",
    "lists",
    "The number of different top-10 lists; few lists mean that the model has collapsed.",
    "taken over all users",
    "more",
)
COVERAGE = Metric(
    "coverage",
    "coverage",
    "share",
    "The share of all tags that are in at least one user's top 10.",
    "taken over all users",
    "more",
    (10,),
)
CLICK_GAUC = Metric(
    "click_gauc",
    "click GAUC",
    "0 to 1",
    "The area under the ROC curve of the item score within each user; 0.5 is chance.",
    "the mean over users with clicked and skipped impressions, weighted by their impressions",
    "more",
    has_slices=True,
)
CLICK_AUC = Metric(
    "click_auc",
    "click AUC",
    "0 to 1",
    "The area under the ROC curve of the item score; 0.5 is chance.",
    "taken over all impressions of the users at once",
    "more",
    has_slices=True,
)
TAGGED_IMPRESSIONS = Metric(
    "tagged_impressions",
    "tagged",
    "share",
    "The share of the impressions whose item carries one of the user's first k tags.",
    _IMPRESSIONS,
    cuts=PROFILE_CUTS,
    has_slices=True,
)
TAG_CTR = Metric(
    "tag_ctr",
    "tag CTR",
    "share",
    "The share of clicked impressions among those whose item carries one of the user's first k "
    "tags.",
    _IMPRESSIONS,
    "more",
    PROFILE_CUTS,
    has_slices=True,
)
PLAIN_CTR = Metric(
    "plain_ctr",
    "plain CTR",
    "share",
    "The share of clicked impressions among all impressions, with which `tag_ctr` is compared.",
    _IMPRESSIONS,
    has_slices=True,
)
NUM_IMPRESSIONS = Metric(
    "num_impressions",
    "impressions",
    "impressions",
    "The number of impressions over which the click figures are taken.",
    has_slices=True,
)
ITEM_RECALL = Metric(
    "item_recall",
    "item R",
    "share",
    "The share of the items clicked for the first time at or after the cut that are among the 100 "
    "items that the user's first ten tags recall, without items clicked before.",
    "the mean over users with such an item",
    "more",
    (NUM_ITEMS,),
)
ITEM_NUM_USERS = Metric(
    "item_num_users",
    "item users",
    "users",
    "The number of users who clicked an item for the first time at or after the cut.",
)
# Names of calibration metrics are parts of names in a report: see `calibration_name`.
CALIBRATION_ERROR = Metric(
    "ece",
    "ECE",
    "0 to 1",
    "The expected calibration error: the distance between mean probability and share of positive "
    "outcomes, as a mean over 15 bins of equal weight.",
    "taken over all outcomes",
    "less",
)
LOG_LOSS = Metric(
    "log_loss",
    "log loss",
    "nats",
    "The mean of minus the logarithm of the probability that the outcome had.",
    "taken over all outcomes",
    "less",
)
BRIER = Metric(
    "brier",
    "Brier",
    "0 to 1",
    "The mean square of probability minus outcome.",
    "taken over all outcomes",
    "less",
)

# Metrics of `trainer.evaluation.figures`.
RANKING_METRICS = (PRECISION, RECALL, NDCG, NUM_USERS, NUM_USERS_WITHOUT_TRUTH)
LIST_METRICS = (DISTINCT_LISTS, COVERAGE)
CLICK_METRICS = (CLICK_GAUC, CLICK_AUC, TAGGED_IMPRESSIONS, TAG_CTR, PLAIN_CTR, NUM_IMPRESSIONS)
# Metrics of `tfx_pipeline.evaluation.held_out_items` and of `tfx_pipeline.evaluation.figures`.
ITEM_METRICS = (ITEM_RECALL, ITEM_NUM_USERS)
CALIBRATION_METRICS = (CALIBRATION_ERROR, LOG_LOSS, BRIER)

# The metrics that may choose the state that a training keeps.
MEAN_NDCG: Final = "mean_ndcg_at_10"
EarlyStoppingMetric = Literal[
    "mean_ndcg_at_10", "precision_at_10", "ndcg_at_10", "novel_precision_at_10", "click_gauc"
]
# Metrics that no report of a run has: of early stopping, and of a study of new tags.
_MEAN_NDCG = Metric(
    MEAN_NDCG,
    "mean of NDCG@10 and novel NDCG@10",
    "0 to 1",
    "The mean of NDCG@10 on all truth and on novel truth, with the linear path.",
    _WITH_TRUTH,
    "more",
)
RECIPROCAL_RANK = Metric(
    "mrr",
    "MRR",
    "0 to 1",
    "The mean of 1 / rank of the first tag that is in the truth.",
    _WITH_TRUTH,
    "more",
)

METRICS = (*RANKING_METRICS, *LIST_METRICS, *CLICK_METRICS, *ITEM_METRICS, *CALIBRATION_METRICS)
_BY_NAME = {metric.name: metric for metric in (*METRICS, _MEAN_NDCG, RECIPROCAL_RANK)}


def calibration_name(metric: Metric, outcome: str, suffix: str = "") -> str:
    """Returns the name of a calibration metric in a report, `click_ece` for example.

    Args:
      metric: Metric, one of `CALIBRATION_METRICS`.
      outcome: Outcome whose probabilities are measured, one of `OUTCOMES`.
      suffix: `UNCALIBRATED` for probabilities before calibration, else nothing.
    """
    return f"{outcome}_{metric.name}{suffix}"


def find_metric(name: str) -> Metric:
    """Returns the metric of a name in a report, of `novel_precision_at_10` for example.

    Args:
      name: Name of a metric, at a cut and on novel truth or not, without a slice.

    Raises:
      KeyError: No metric has this name.
    """
    bare = name.removeprefix(NOVEL)
    return _BY_NAME[bare] if bare in _BY_NAME else _BY_NAME[bare.rpartition("_at_")[0]]


def label(name: str) -> str:
    """Returns a metric as the title of a column: `novel P@10` for `novel_precision_at_10`.

    Args:
      name: Name of a metric, at a cut and on novel truth or not, without a slice.

    Raises:
      KeyError: No metric has this name.
    """
    metric, bare = find_metric(name), name.removeprefix(NOVEL)
    cut = "" if bare == metric.name else f"@{bare.rpartition('_at_')[2]}"
    return f"{'novel ' if bare != name else ''}{metric.label}{cut}"
