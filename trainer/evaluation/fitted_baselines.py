"""All baselines of a report, each chosen on validation users and ready to be evaluated on others.

Which there are depends on the log: what takes too much memory, or has nothing to look at, is left
out with the reason.
"""

import dataclasses
import logging
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from trainer.contract.features import USER_ID, FeatureSpec
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.baselines_config import BASELINES, BaselinesConfig
from trainer.evaluation.ease import choose_ease, deciding_users, ease_memory_bytes, ease_scorer
from trainer.evaluation.figures import ItemScorer, TagScorer
from trainer.evaluation.neighbours import Neighbours
from trainer.evaluation.tag_rows import (
    columns_of_rows,
    counting_domain,
    first_of_users,
    log_counts,
    user_rows,
)

_progress = logging.getLogger("tagtower.baselines")


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One baseline.

    Attributes:
      tag_scorer: Scores every tag.
      has_novel: Whether it has an opinion about tags that a user never clicked.
      item_scorer: Click scores; None: it has none.
    """

    tag_scorer: TagScorer
    has_novel: bool = True
    item_scorer: ItemScorer | None = None


@dataclasses.dataclass(frozen=True)
class FittedBaselines:
    """The baselines of a log.

    Attributes:
      by_name: Those of `BASELINES` that there are, in that order.
      settings: What was chosen, by the report's names: `blend_weight`, `ease_regularization`,
        `ease_own_history_weight`, `neighbours_num_users`.
      skipped: By name of those that there are not, why.
    """

    by_name: Mapping[str, Baseline]
    settings: Mapping[str, float]
    skipped: Mapping[str, str]


def columns_of_training(spec: FeatureSpec) -> tuple[str, ...]:
    """The columns of training examples that `fit_baselines` looks at."""
    return columns_of_rows(counting_domain(spec))


def fit_baselines(
    clicks: np.ndarray,
    train: Snapshots,
    validation: Snapshots,
    spec: FeatureSpec,
    config: BaselinesConfig,
    seed: int = 0,
) -> FittedBaselines:
    """Fits all baselines, and chooses their numbers on validation users.

    Args:
      clicks: float [num_tags], clicks of the train users.
      train: Training snapshots; of their columns at least `columns_of_training`.
      validation: Snapshots of validation users.
      spec: The features: which domains count tags.
      config: Bounds.
      seed: Seed of `random`.

    Returns:
      The baselines.
    """
    num_tags = len(clicks)
    weight, blend = baselines.choose_blend(clicks, validation)
    found = {
        "blend": Baseline(blend, has_novel=False),
        # Own history has no opinion about tags never clicked.
        "own_history": Baseline(
            baselines.own_history(num_tags), False, baselines.history_item_scorer(num_tags)
        ),
        "popularity": Baseline(baselines.popularity(clicks)),
        "random": Baseline(baselines.random(num_tags, seed)),
    }
    of_rows = _fit_on_rows(num_tags, train, validation, spec, config)
    found |= of_rows.by_name
    settings = {"blend_weight": weight, **of_rows.settings}
    skipped = dict(of_rows.skipped)
    skipped_tags = counting_domain(spec, "skipped")
    if skipped_tags is None:
        skipped["shown"] = "no domain of `features` counts the tags of what was skipped"
    else:
        found["shown"] = Baseline(baselines.shown(num_tags, skipped_tags))
    for who, reason in skipped.items():
        _progress.info("baseline %s is left out: %s", who, reason)
    by_name = {who: found[who] for who in BASELINES if who in found}
    return FittedBaselines(by_name, settings, skipped)


def _fit_on_rows(
    num_tags: int,
    train: Snapshots,
    validation: Snapshots,
    spec: FeatureSpec,
    config: BaselinesConfig,
) -> FittedBaselines:
    """Those that learn from the rows of training users: EASE, alone and mixed, and neighbours."""
    domain = counting_domain(spec)
    counts = user_rows(train, num_tags, domain)
    if not counts.nnz:
        no_clicks = "no training user clicked a known tag"
        skipped = dict.fromkeys(("ease", "ease_own_history", "neighbours"), no_clicks)
        return FittedBaselines({}, {}, skipped)
    ease = _fit_ease(counts, validation, config)
    num_users = counts.shape[0]
    rows = first_of_users(train, config.max_neighbour_users)
    if len(rows) < num_users:
        counts = user_rows(train, num_tags, domain, config.max_neighbour_users)
    neighbours = Baseline(Neighbours(counts, train.scalars[USER_ID][rows]).scorer())
    return FittedBaselines(
        {**ease.by_name, "neighbours": neighbours},
        {**ease.settings, "neighbours_num_users": float(len(rows))},
        ease.skipped,
    )


def _fit_ease(
    counts: sparse.csr_matrix, validation: Snapshots, config: BaselinesConfig
) -> FittedBaselines:
    """EASE of the users' rows, alone and mixed with their own history, where there is room."""
    num_users, num_tags = counts.shape
    mbytes = ease_memory_bytes(num_users, num_tags, counts.nnz) / 1e6
    if mbytes > config.max_ease_memory_mb:
        too_large = (
            f"{num_users:,} training users by {num_tags:,} tags would take about "
            f"{mbytes:,.0f} MB (`baselines.max_ease_memory_mb` is {config.max_ease_memory_mb})"
        )
        return FittedBaselines({}, {}, dict.fromkeys(("ease", "ease_own_history"), too_large))
    ease = choose_ease(log_counts(counts), validation)
    own = baselines.choose_weight(
        lambda weight: baselines.ease_own_history(ease, weight),
        deciding_users(validation, num_tags),
        num_tags,
        baselines.EASE_WEIGHTS,
    )
    return FittedBaselines(
        {
            "ease": Baseline(ease_scorer(ease)),
            "ease_own_history": Baseline(baselines.ease_own_history(ease, own), False),
        },
        {"ease_regularization": ease.regularization, "ease_own_history_weight": own},
        {},
    )
