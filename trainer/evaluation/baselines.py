"""Baselines of a model: popularity, own history, mixes with it, exposure, and chance.

Each baseline is a `trainer.evaluation.figures.TagScorer`. None reads the labels of the users it
scores. Baselines that are fitted on training users are in `trainer.evaluation.ease` and
`trainer.evaluation.neighbours`; `trainer.evaluation.fitted_baselines` makes all of them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from trainer.contract.features import (
    HISTORY_TAG_COUNTS,
    HISTORY_TAGS,
    IMPRESSION_NUM_TAGS,
    IMPRESSION_TAGS,
    USER_ID,
)
from trainer.contract.metric_registry import PRECISION
from trainer.contract.whole_files import read_json_lines
from trainer.data.snapshots import Snapshots
from trainer.evaluation.ease import Ease
from trainer.evaluation.figures import ItemScorer, TagScorer, evaluate
from trainer.evaluation.tag_rows import domain_rows, history_rows, log_counts

# Weights of popularity in the blend, in events.
BLEND_WEIGHTS = (0.1, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
# Weights of a user's own log(1 + count) beside the scores of EASE, which have the same scale.
EASE_WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def load_tag_clicks(path: str, tags: Sequence[str]) -> np.ndarray:
    """Reads the clicks of the training users by tag.

    Args:
      path: Path of the example generator's `tags.jsonl`.
      tags: The tags in order of their ids.

    Returns:
      float [num_tags], clicks on each tag.
    """
    rows = read_json_lines(path)
    clicks = {row["tag"]: float(row["clicks"]) for row in rows}
    return np.array([clicks.get(tag, 0.0) for tag in tags])


def popularity(clicks: np.ndarray) -> TagScorer:
    """Returns a scorer that ranks tags by clicks of the training users, the same for everyone."""

    def score(chunk: Snapshots) -> np.ndarray:
        return np.tile(clicks, (chunk.num_examples, 1))

    return score


def own_history(num_tags: int) -> TagScorer:
    """Returns a scorer that ranks tags by the user's earlier clicks; novel tags score 0."""

    def score(chunk: Snapshots) -> np.ndarray:
        return _history_counts(chunk, num_tags)

    return score


def blend(clicks: np.ndarray, weight: float) -> TagScorer:
    """Returns a scorer that adds own history and `weight` times each tag's share of all clicks.

    Args:
      clicks: float [num_tags], clicks of the training users.
      weight: Weight of popularity, in clicks of the user.
    """
    shares = clicks / max(clicks.sum(), 1.0)

    def score(chunk: Snapshots) -> np.ndarray:
        return _history_counts(chunk, len(shares)) + weight * shares

    return score


def random(num_tags: int, seed: int = 0) -> TagScorer:
    """Returns a scorer that orders tags by chance, which depends on user id and seed alone."""

    def score(chunk: Snapshots) -> np.ndarray:
        rows = []
        for user in chunk.scalars[USER_ID]:
            encoded = user if isinstance(user, bytes) else str(user).encode()
            rows.append(np.random.default_rng([seed, *encoded]).random(num_tags))
        return np.array(rows)

    return score


def ease_own_history(ease: Ease, weight: float) -> TagScorer:
    """Returns a scorer that adds EASE and `weight` times log(1 + the user's own clicks).

    Args:
      ease: The fitted model.
      weight: Weight of the user's clicks on the tag itself, which is 0 in EASE.
    """

    def score(chunk: Snapshots) -> np.ndarray:
        logs = log_counts(history_rows(chunk, ease.num_tags))
        return ease.scores(logs) + weight * np.asarray(logs.todense())

    return score


def shown(num_tags: int, skipped: str) -> TagScorer:
    """Returns a scorer that ranks tags by how often they were shown to the user, clicked or not.

    Args:
      num_tags: Number of tags.
      skipped: Name of the domain that counts the tags of skipped items.
    """

    def score(chunk: Snapshots) -> np.ndarray:
        rows = history_rows(chunk, num_tags) + domain_rows(chunk, skipped, num_tags)
        return np.asarray(rows.todense())

    return score


def choose_weight(
    scorer_of: Callable[[float], TagScorer],
    validation: Snapshots,
    num_tags: int,
    weights: Sequence[float],
    metric: str = PRECISION.at(10),
) -> float:
    """Returns the weight of a mix that is best on validation users.

    Args:
      scorer_of: Function from a weight to the scorer of the mix.
      validation: Snapshots of validation users.
      num_tags: Number of tags.
      weights: Weights that are tried.
      metric: Name of the deciding metric.

    Returns:
      The best weight; the smallest of equally good ones.
    """

    def quality(weight: float) -> float:
        result = evaluate(
            scorer_of(weight), validation, num_tags, with_novel=False, with_slices=False
        )
        return result[metric] or 0.0

    return max(sorted(weights), key=quality)


def choose_blend(
    clicks: np.ndarray,
    validation: Snapshots,
    weights: Sequence[float] = BLEND_WEIGHTS,
    metric: str = PRECISION.at(10),
) -> tuple[float, TagScorer]:
    """Returns the blend whose weight is best on validation users.

    Args:
      clicks: float [num_tags], clicks of the training users.
      validation: Snapshots of validation users.
      weights: Weights that are tried.
      metric: Name of the deciding metric.

    Returns:
      The best weight (the smallest of equally good ones), and the scorer with it.
    """
    best = choose_weight(
        lambda weight: blend(clicks, weight), validation, len(clicks), weights, metric
    )
    return best, blend(clicks, best)


def history_item_scorer(num_tags: int) -> ItemScorer:
    """Returns a scorer of impressions: the sum of the user's earlier clicks on the item's tags."""

    def score(chunk: Snapshots) -> np.ndarray:
        tags, counts = chunk.lists[IMPRESSION_TAGS], chunk.lists[IMPRESSION_NUM_TAGS].values
        known = tags.values >= 0
        history = _history_counts(chunk, num_tags)
        impression = np.repeat(np.arange(len(counts)), counts)[known]
        gains = history[tags.row_ids[known], tags.values[known]]
        return np.bincount(impression, gains, len(counts))

    return score


def _history_counts(chunk: Snapshots, num_tags: int) -> np.ndarray:
    tags, counts = chunk.lists[HISTORY_TAGS], chunk.lists[HISTORY_TAG_COUNTS]
    known = tags.values >= 0
    result = np.zeros((chunk.num_examples, num_tags))
    np.add.at(result, (tags.row_ids[known], tags.values[known]), counts.values[known])
    return result
