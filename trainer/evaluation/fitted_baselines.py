"""Fits all baselines of a report, with parameters chosen on validation users.

Which baselines there are depends on the log: one that takes too much memory, or lacks its data, is
left out with the reason.
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
    """A baseline's scorers.

    Attributes:
      tag_scorer: Scorer of every tag.
      has_novel: Whether its scores of tags that a user never clicked mean anything.
      item_scorer: Scorer of impressions; None: the baseline has no click scores.
    """

    tag_scorer: TagScorer
    has_novel: bool = True
    item_scorer: ItemScorer | None = None


@dataclasses.dataclass(frozen=True)
class FittedBaselines:
    """The baselines of a log.

    Attributes:
      by_name: Baselines by name, in the order of `BASELINES`.
      settings: Chosen parameters by the report's names: `blend_weight`, `ease_regularization`,
        `ease_own_history_weight`, `neighbours_num_users`.
      skipped: Reasons by name of the baselines that were left out.
    """

    by_name: Mapping[str, Baseline]
    settings: Mapping[str, float]
    skipped: Mapping[str, str]


def columns_of_training(spec: FeatureSpec) -> tuple[str, ...]:
    """Returns the names of the columns of training examples that `fit_baselines` reads."""
    return columns_of_rows(counting_domain(spec))


def fit_baselines(
    clicks: np.ndarray,
    train: Snapshots,
    validation: Snapshots,
    spec: FeatureSpec,
    config: BaselinesConfig,
    seed: int = 0,
) -> FittedBaselines:
    """Fits all baselines, and chooses their parameters on validation users.

    Args:
      clicks: float [num_tags], clicks of the training users.
      train: Training snapshots with at least the columns `columns_of_training`.
      validation: Snapshots of validation users.
      spec: The feature specification, which says what domains count tags.
      config: Limits of the baselines.
      seed: Seed of the baseline `random`.

    Returns:
      The baselines.
    """
    num_tags = len(clicks)
    weight, blend = baselines.choose_blend(clicks, validation)
    found = {
        "blend": Baseline(blend, has_novel=False),
        # Own history gives the score 0 to all tags never clicked.
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
        skipped["shown"] = "no domain of `features` counts the tags of skipped items"
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
