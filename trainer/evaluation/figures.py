"""Evaluates ranked tags and click scores exactly, chunk by chunk.

Validation in training, the Evaluator and the baselines all use it, so that their figures are
comparable. It ranks every tag of the vocabulary; an undefined figure is None, never 0.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trainer.contract.config_loader import require
from trainer.contract.features import (
    HISTORY_NUM_EVENTS,
    HISTORY_TAGS,
    IMPRESSION_CLICKED,
    IMPRESSION_NUM_TAGS,
    IMPRESSION_TAGS,
    IMPRESSION_WEIGHTS,
    LABEL_TAGS,
)
from trainer.contract.metric_registry import (
    CLICK_AUC,
    CLICK_GAUC,
    COVERAGE,
    CUTS,
    DISTINCT_LISTS,
    HEAD,
    HISTORY_SLICES,
    NDCG,
    NOVEL,
    NUM_IMPRESSIONS,
    NUM_USERS,
    NUM_USERS_WITHOUT_TRUTH,
    PLAIN_CTR,
    PRECISION,
    PROFILE_CUTS,
    RECALL,
    TAG_CTR,
    TAGGED_IMPRESSIONS,
    TAIL,
)
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics

_CHUNK = 512
_MAX_SCORES = 2**24  # largest number of scores in a chunk, users times tags

# Name of the weight of a user's AUC in `click_gauc`, 1 on average.
GAUC_WEIGHT = f"{CLICK_GAUC.name}_weight"

# Function from a chunk of snapshots to scores of every tag, float [chunk, num_tags].
TagScorer = Callable[[Snapshots], np.ndarray]
# Function from a chunk of snapshots to click scores of its impressions, float [num_impressions].
ItemScorer = Callable[[Snapshots], np.ndarray]


def head_tags(tag_clicks: np.ndarray, share: float = 0.8) -> np.ndarray:
    """Finds the most clicked tags that together get `share` of all clicks.

    Args:
      tag_clicks: int [num_tags], clicks of training users.
      share: Share of all clicks, above 0 and at most 1.

    Returns:
      bool [num_tags], whether a tag is one of them; the others are the tail.
    """
    order = np.argsort(-tag_clicks, kind="stable")
    before = np.cumsum(tag_clicks[order]) - tag_clicks[order]
    is_head = np.zeros(len(tag_clicks), bool)
    is_head[order[before < share * tag_clicks.sum()]] = True
    return is_head


def users_at_once(num_tags: int) -> int:
    """Returns the number of users whose scores of all tags are held at once."""
    return max(1, min(_CHUNK, _MAX_SCORES // num_tags))


def evaluate(
    tag_scorer: TagScorer,
    snapshots: Snapshots,
    num_tags: int,
    item_scorer: ItemScorer | None = None,
    *,
    is_head: np.ndarray | None = None,
    with_novel: bool = True,
    with_slices: bool = True,
    chunk_size: int | None = None,
) -> dict[str, float | None]:
    """Computes all metrics of the protocol in docs/model.md.

    Args:
      tag_scorer: Scorer of every tag for a chunk of snapshots.
      snapshots: One snapshot for each user.
      num_tags: Number of tags.
      item_scorer: Scorer of the impressions of a chunk; None: no click figures.
      is_head: bool [num_tags], head tags, for the slices `head_tags` and `tail_tags`, which
        restrict the *truth* alone; None: these slices are left out.
      with_novel: Whether the scores mean anything for tags never clicked (not for own history).
      with_slices: Whether to compute slices, named `<slice>.<metric>`.
      chunk_size: Number of snapshots scored at once; None: `users_at_once`.

    Returns:
      Metrics by name, e.g. `precision_at_10`, `novel_ndcg_at_5`, `click_gauc`, `tag_ctr_at_3`,
      `plain_ctr`, `distinct_top10`, `coverage_at_10` (share of the vocabulary in any user's top
      10), `num_users`, `num_users_without_truth`, `known_users.precision_at_10`. None: undefined.

    Raises:
      ValueError: A scorer returns another shape, or there is no snapshot.
    """
    parts = _evaluate_chunks(
        snapshots, chunk_size, tag_scorer, num_tags, item_scorer, is_head, with_novel
    )
    return _figures(parts, snapshots, num_tags, with_slices)


def _figures(
    parts: list["_Chunk"], snapshots: Snapshots, num_tags: int, with_slices: bool
) -> dict[str, float | None]:
    by_user = _concatenate_users(parts)
    top10 = np.concatenate([p.top10 for p in parts])
    impressions = _concatenate_impressions(parts)
    num_events = snapshots.scalars.get(HISTORY_NUM_EVENTS)

    result = _summary(by_user, impressions, np.ones(len(top10), bool))
    result[DISTINCT_LISTS.name] = float(len(np.unique(top10, axis=0)))
    result[COVERAGE.at(10)] = len(np.unique(top10)) / num_tags
    if with_slices and num_events is not None:
        for name, at_least, below in HISTORY_SLICES:
            inside = (num_events >= at_least) & (num_events < below)
            for metric, value in _summary(by_user, impressions, inside).items():
                result[f"{name}.{metric}"] = value
    return result


def evaluate_users(
    tag_scorer: TagScorer,
    snapshots: Snapshots,
    num_tags: int,
    item_scorer: ItemScorer | None = None,
    *,
    with_novel: bool = True,
    chunk_size: int | None = None,
) -> dict[str, np.ndarray]:
    """Computes the metrics of every user, so that two models can be compared user by user.

    Args:
      tag_scorer: Scorer of every tag for a chunk of snapshots.
      snapshots: One snapshot for each user.
      num_tags: Number of tags.
      item_scorer: Scorer of the impressions of a chunk; None: no click figures.
      with_novel: Whether the scores mean anything for tags never clicked.
      chunk_size: Number of snapshots scored at once; None: `users_at_once`.

    Returns:
      float [num_users] by name of the metric, nan where it is undefined for a user; the mean of the
      others is the metric of `evaluate`. A user's `click_gauc` is the AUC times a weight, the
      user's impressions over their mean number among users with an AUC; `GAUC_WEIGHT` names it.
    """
    parts = _evaluate_chunks(
        snapshots, chunk_size, tag_scorer, num_tags, item_scorer, None, with_novel
    )
    return _figures_of_users(parts, snapshots.num_examples)


def evaluate_all_and_users(
    tag_scorer: TagScorer,
    snapshots: Snapshots,
    num_tags: int,
    item_scorer: ItemScorer | None = None,
    *,
    is_head: np.ndarray | None = None,
    with_novel: bool = True,
    with_slices: bool = True,
    chunk_size: int | None = None,
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    """Computes what `evaluate` and `evaluate_users` return, with every score computed once.

    Args:
      tag_scorer: Scorer of every tag for a chunk of snapshots.
      snapshots: One snapshot for each user.
      num_tags: Number of tags.
      item_scorer: Scorer of the impressions of a chunk; None: no click figures.
      is_head: bool [num_tags], head tags, for the slices `head_tags` and `tail_tags`; None: these
        slices are left out.
      with_novel: Whether the scores mean anything for tags never clicked.
      with_slices: Whether to compute slices.
      chunk_size: Number of snapshots scored at once; None: `users_at_once`.

    Returns:
      The metrics, and the metrics of every user.
    """
    parts = _evaluate_chunks(
        snapshots, chunk_size, tag_scorer, num_tags, item_scorer, is_head, with_novel
    )
    return (
        _figures(parts, snapshots, num_tags, with_slices),
        _figures_of_users(parts, snapshots.num_examples),
    )


def _figures_of_users(parts: list["_Chunk"], num_users: int) -> dict[str, np.ndarray]:
    by_user = _concatenate_users(parts)
    figures = {name: values for name, values in by_user.items() if "without_truth" not in name}
    impressions = _concatenate_impressions(parts)
    if "score" in impressions:
        names = ("score", "clicked", "weight", "user")
        scores, clicked, weights, users = (impressions[name] for name in names)
        auc = metrics.auc_by_group(scores, clicked, weights, users, num_users)
        sizes = np.bincount(users, weights, num_users)
        mean_size = metrics.mean_defined(np.where(np.isnan(auc), np.nan, sizes))
        weights = np.where(np.isnan(auc), np.nan, sizes / mean_size)
        figures[CLICK_GAUC.name], figures[GAUC_WEIGHT] = auc * weights, weights
    return figures


@dataclasses.dataclass(frozen=True)
class _Chunk:
    by_user: dict[str, np.ndarray]
    top10: np.ndarray
    impressions: dict[str, np.ndarray]


def _evaluate_chunks(
    snapshots: Snapshots,
    chunk_size: int | None,
    tag_scorer: TagScorer,
    num_tags: int,
    *arguments: Any,
) -> list[_Chunk]:
    size = chunk_size or users_at_once(num_tags)
    parts = []
    for first in range(0, snapshots.num_examples, size):
        chunk = snapshots.take(np.arange(first, min(first + size, snapshots.num_examples)))
        parts.append(_evaluate_chunk(chunk, tag_scorer, num_tags, *arguments))
    require(bool(parts), "snapshots", "contain at least one example", 0)
    return parts


def _concatenate_users(parts: list[_Chunk]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([p.by_user[name] for p in parts]) for name in parts[0].by_user}


def _evaluate_chunk(
    chunk: Snapshots,
    tag_scorer: TagScorer,
    num_tags: int,
    item_scorer: ItemScorer | None,
    is_head: np.ndarray | None,
    with_novel: bool,
) -> _Chunk:
    num_users = chunk.num_examples
    scores = np.asarray(tag_scorer(chunk))
    require(
        scores.shape == (num_users, num_tags),
        "tag_scorer",
        f"return {(num_users, num_tags)}",
        scores.shape,
    )
    truth, num_unknown = _membership(chunk, LABEL_TAGS, num_tags)
    history, _ = _membership(chunk, HISTORY_TAGS, num_tags)
    ranked = metrics.top_k(scores, max(CUTS))
    by_user = _ranking_metrics(ranked, truth, num_unknown, "")
    # The history names known tags only, so an unknown label may be novel: it counts as novel.
    novel_truth = truth & ~history
    if with_novel:
        novel_scores = np.where(history, -np.inf, scores)
        novel_ranked = metrics.top_k(novel_scores, max(CUTS))
        # A tag of the history may fill up a short list, but is no hit: it is in no novel truth.
        by_user |= _ranking_metrics(novel_ranked, novel_truth, num_unknown, NOVEL)
    else:
        by_user |= _ranking_metrics(ranked, np.zeros_like(truth), np.zeros_like(num_unknown), NOVEL)
    if is_head is not None:
        none_unknown = np.zeros_like(num_unknown)
        by_user |= _ranking_metrics(ranked, truth & is_head, none_unknown, HEAD)
        by_user |= _ranking_metrics(ranked, truth & ~is_head, num_unknown, TAIL)
    return _Chunk(by_user, ranked[:, :10], _impressions(chunk, ranked, num_tags, item_scorer))


def _membership(chunk: Snapshots, name: str, num_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns users' known tags, bool [users, num_tags], and counts of unknown tags, [users]."""
    column = chunk.lists[name]
    users, tags = column.row_ids, column.values
    known = tags >= 0
    members = np.zeros((chunk.num_examples, num_tags), bool)
    members[users[known], tags[known]] = True
    return members, np.bincount(users[~known], minlength=chunk.num_examples)


def _ranking_metrics(
    ranked: np.ndarray, truth: np.ndarray, num_unknown: np.ndarray, prefix: str
) -> dict[str, np.ndarray]:
    hits = np.take_along_axis(truth, ranked, axis=1)
    num_relevant = truth.sum(axis=1) + num_unknown
    without_truth = num_relevant == 0
    by_user: dict[str, np.ndarray] = {f"{prefix}without_truth": without_truth.astype(float)}
    for k in CUTS:
        precision = metrics.precision_at(hits, k)
        by_user[PRECISION.at(k, prefix)] = np.where(without_truth, np.nan, precision)
        by_user[RECALL.at(k, prefix)] = metrics.recall_at(hits, num_relevant, k)
        by_user[NDCG.at(k, prefix)] = metrics.ndcg_at(hits, num_relevant, k)
    return by_user


def _impressions(
    chunk: Snapshots, ranked: np.ndarray, num_tags: int, item_scorer: ItemScorer | None
) -> dict[str, np.ndarray]:
    """Returns columns of the impressions: user, clicked, weight, score, and a tag in the top k."""
    if IMPRESSION_TAGS not in chunk.lists:
        return {}
    tags, counts = chunk.lists[IMPRESSION_TAGS], chunk.lists[IMPRESSION_NUM_TAGS]
    columns: dict[str, np.ndarray] = {
        "user": counts.row_ids,
        "clicked": chunk.lists[IMPRESSION_CLICKED].values.astype(np.float64),
        "weight": chunk.lists[IMPRESSION_WEIGHTS].values.astype(np.float64),
    }
    num_impressions = len(counts.values)
    if item_scorer is not None:
        scores = np.asarray(item_scorer(chunk), np.float64)
        require(
            scores.shape == (num_impressions,),
            "item_scorer",
            f"return {(num_impressions,)}",
            scores.shape,
        )
        columns["score"] = scores
    # With the rank of every tag for every user, each impression's best rank decides all cuts.
    ranks = np.full((chunk.num_examples, num_tags), ranked.shape[1], np.int32)
    np.put_along_axis(ranks, ranked, np.arange(ranked.shape[1], dtype=np.int32)[np.newaxis], axis=1)
    known = tags.values >= 0
    impression = np.repeat(np.arange(num_impressions), counts.values)[known]
    best = np.full(num_impressions, max(PROFILE_CUTS), np.int32)
    np.minimum.at(best, impression, ranks[tags.row_ids[known], tags.values[known]])
    for k in PROFILE_CUTS:
        columns[f"tagged_at_{k}"] = (best < k).astype(np.float64)
    return columns


def _concatenate_impressions(parts: list[_Chunk]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for name in parts[0].impressions:
        columns[name] = np.concatenate([part.impressions[name] for part in parts])
    if columns:
        first_user = np.cumsum([0] + [len(part.top10) for part in parts[:-1]])
        sizes = [len(part.impressions["user"]) for part in parts]
        columns["user"] = columns["user"] + np.repeat(first_user, sizes)
    return columns


def _summary(
    by_user: Mapping[str, np.ndarray], impressions: Mapping[str, np.ndarray], inside: np.ndarray
) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    num_inside = int(inside.sum())
    for name, values in by_user.items():
        if not name.endswith("without_truth"):
            result[name] = _defined(metrics.mean_defined(values[inside]))
            continue
        prefix = name.removesuffix("without_truth")
        without_truth = float(values[inside].sum())
        result[prefix + NUM_USERS.name] = num_inside - without_truth
        result[prefix + NUM_USERS_WITHOUT_TRUTH.name] = without_truth
    if impressions:
        result.update(_click_metrics(impressions, inside))
    return result


def _click_metrics(
    impressions: Mapping[str, np.ndarray], inside: np.ndarray
) -> dict[str, float | None]:
    rows = inside[impressions["user"]]
    users, clicked, weights = (impressions[name][rows] for name in ("user", "clicked", "weight"))
    clicks = clicked * weights
    result: dict[str, float | None] = {
        NUM_IMPRESSIONS.name: float(len(users)),
        PLAIN_CTR.name: _share(clicks.sum(), weights.sum()),
        CLICK_AUC.name: None,
        CLICK_GAUC.name: None,
    }
    for k in PROFILE_CUTS:
        tagged = impressions[f"tagged_at_{k}"][rows]
        result[TAGGED_IMPRESSIONS.at(k)] = _share((tagged * weights).sum(), weights.sum())
        result[TAG_CTR.at(k)] = _share((tagged * clicks).sum(), (tagged * weights).sum())
    if "score" in impressions:
        scores = impressions["score"][rows]
        one_group = np.zeros(len(users), np.int64)
        result[CLICK_AUC.name] = _defined(
            float(metrics.auc_by_group(scores, clicked, weights, one_group, 1)[0])
        )
        result[CLICK_GAUC.name] = _defined(
            metrics.gauc(scores, clicked, weights, users, len(inside))
        )
    return result


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
