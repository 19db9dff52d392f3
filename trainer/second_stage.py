"""The second stage: what orders the tags that retrieval by the multi-class score proposes.

Of an item with one tag the click head's logit is an inner product with the same query as the
multi-class logit, so a mix of both is one more table of tag vectors:

    ranking = (1 - w) * candidate_embeddings + w * click_embeddings

w = 0 is the multi-class score, w = 1 the click head. A servable takes the N tags with the highest
multi-class score and orders them by `query . ranking`; here is the same in numpy, for validation,
which chooses w, and for the Evaluator. Building the servable is `serving.retrieval`'s work.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import features as f
from trainer import metrics
from trainer.config import RankingConfig
from trainer.evaluation import CUTS, TagScorer, evaluate, users_at_once
from trainer.model import InterestModel
from trainer.snapshots import ListValues, Snapshots

# Tried on validation users.
CLICK_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# That look at one weight after another: enough to tell weights apart.
MAX_USERS = 5_000
_CHUNK = 512
_MULTI_CLASS, _CLICK = "multi_class_logits", "click_logits"


@dataclasses.dataclass(frozen=True)
class WeightTrial:
    """One weight on validation users.

    Attributes:
      click_weight: w.
      quality: The deciding metric; None: undefined, as no user has a truth.
    """

    click_weight: float
    quality: float | None


@dataclasses.dataclass(frozen=True)
class SecondStage:
    """What was decided after the fit; the defaults are those of a model without a second stage.

    Attributes:
      click_weight: w as served.
      mix_weight: The best w that mixes, above 0 and below 1, on validation users; None: there is no
        click head to mix with.
      num_candidates: N.
      metric: The deciding metric.
      trials: The weights tried; empty without a click head.
    """

    click_weight: float = 0.0
    mix_weight: float | None = None
    num_candidates: int = RankingConfig.num_candidates
    metric: str = ""
    trials: tuple[WeightTrial, ...] = ()


def mixed(multi_class: Any, click: Any, click_weight: float) -> Any:
    """`(1 - w) * multi_class + w * click`, of tensors or arrays: of logits, or of tag vectors."""
    return (1.0 - click_weight) * multi_class + click_weight * click


def two_stage_scores(
    multi_class: np.ndarray, queries: np.ndarray, ranking: np.ndarray, num_candidates: int
) -> np.ndarray:
    """Scores whose order is that of two stages, for `trainer.evaluation.evaluate`.

    First come the N best tags by the multi-class logit, in the order of `query . ranking` (equal
    ones in that of the multi-class logit); then all others in the order of the multi-class logit.
    Up to the N-th place this is what a servable with an exact index answers. Only the order means
    anything.

    Args:
      multi_class: float [batch, num_tags], multi-class logits.
      queries: float [batch, dimension].
      ranking: float [num_tags, dimension].
      num_candidates: N; all tags where there are fewer.

    Returns:
      float64 [batch, num_tags].
    """
    candidates = metrics.top_k(multi_class, num_candidates)
    logits = np.einsum("bd,bnd->bn", queries, ranking[candidates])
    return _promoted(multi_class, candidates, logits)


def _promoted(multi_class: np.ndarray, candidates: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Logits [batch, n] as scores, with the candidates [batch, N] first, by logits of their own."""
    order = np.argsort(-logits, axis=1, kind="stable")
    scores = multi_class.astype(np.float64)
    # Places above the best logit: whole numbers apart, so that no two of them are equal.
    places = np.arange(candidates.shape[1], 0, -1) + scores.max(axis=1, keepdims=True)
    np.put_along_axis(scores, np.take_along_axis(candidates, order, axis=1), places, axis=1)
    return scores


def best_weight(trials: Sequence[WeightTrial]) -> float | None:
    """The weight with the highest quality, the smallest of equally good ones.

    Args:
      trials: In any order.

    Returns:
      The weight; None if no quality is defined.
    """
    defined = [(-t.quality, t.click_weight) for t in trials if t.quality is not None]
    return min(defined)[1] if defined else None


def choose_second_stage(
    model: InterestModel,
    validation: Snapshots,
    config: RankingConfig,
    weights: Sequence[float] = CLICK_WEIGHTS,
) -> SecondStage:
    """Tries weights on validation users, and decides as configured.

    Args:
      model: The trained model.
      validation: One snapshot a validation user.
      config: What decides; without a click loss w is 0 whatever it says.
      weights: The weights tried; other than 0 and 1, the best of them is `mix_weight`.

    Returns:
      The decision. Where no validation user has a truth, `validation` takes w = 0.
    """
    metric = model.training_config.early_stopping_metric
    if model.training_config.click_objective is None:
        return SecondStage(num_candidates=config.num_candidates, metric=metric)
    trials = _try_weights(model, validation, config.num_candidates, metric, sorted(weights))
    mixes = [trial for trial in trials if 0 < trial.click_weight < 1]
    chosen = {
        "multi_class": 0.0,
        "click": 1.0,
        "mix": config.click_weight,
        "validation": best_weight(trials) or 0.0,
    }[config.score]
    return SecondStage(chosen, best_weight(mixes), config.num_candidates, metric, tuple(trials))


def _try_weights(
    model: InterestModel,
    validation: Snapshots,
    num_candidates: int,
    metric: str,
    weights: Sequence[float],
) -> list[WeightTrial]:
    users = spread_users(validation, MAX_USERS)
    with_novel = metric.startswith("novel_")
    # The towers run once and all tags are scored once: every weight orders the same short lists.
    lists = shortlists(
        over_chunks(model.query_embeddings, users, model.spec.raw_names),
        model.candidate_embeddings().numpy(),
        model.click_candidate_embeddings().numpy(),
        users,
        num_candidates,
        with_novel,
    )
    num_listed = lists.scalars[_MULTI_CLASS].shape[1]
    trials = []
    for weight in weights:
        figures = evaluate(
            _scorer(weight, num_candidates),
            lists,
            num_listed,
            with_novel=with_novel,
            with_slices=False,
        )
        # How tags are ordered changes nothing about clicks on items.
        trials.append(WeightTrial(weight, figures.get(metric)))
    return trials


def shortlists(
    queries: np.ndarray,
    candidates: np.ndarray,
    clicks: np.ndarray,
    users: Snapshots,
    num_candidates: int,
    with_novel: bool,
) -> Snapshots:
    """Of every user the tags that decide metrics at cuts, whatever w is.

    These are the N candidates; as many of the best tags as the greatest cut has places; with
    `with_novel` as many of those that are not in the history; and the labels.

    Args:
      queries: float [num_users, dimension].
      candidates: float [num_tags, dimension], for multi-class logits.
      clicks: float [num_tags, dimension], for click logits.
      users: With labels and histories.
      num_candidates: N.
      with_novel: Whether novel metrics are wanted.

    Returns:
      The users, their tags numbered by place in their own list, in order of the tags: both logits,
      float [num_users, n], in scalars, -inf where a list is shorter; labels and, of the history,
      what is listed.
    """
    size = users_at_once(len(candidates))
    parts = []
    for first in range(0, users.num_examples, size):
        rows = np.arange(first, min(first + size, users.num_examples))
        chunk = users.take(rows)
        logits = queries[rows] @ candidates.T
        listed = np.zeros(logits.shape, bool)
        best = metrics.top_k(logits, max(num_candidates, *CUTS))
        np.put_along_axis(listed, best, True, axis=1)
        if with_novel:
            novel = logits.copy()
            novel[_known_pairs(chunk.lists[f.HISTORY_TAGS])] = -np.inf
            np.put_along_axis(listed, metrics.top_k(novel, max(CUTS)), True, axis=1)
        listed[_known_pairs(chunk.lists[f.LABEL_TAGS])] = True
        user, tags = np.nonzero(listed)
        products = np.einsum("pd,pd->p", queries[rows[user]], clicks[tags])
        parts.append((rows[user], tags, logits[listed], products))
    user, tags, *logits_of_pairs = (np.concatenate(p) for p in zip(*parts, strict=True))
    starts = np.searchsorted(user, np.arange(users.num_examples))
    places = np.arange(len(user)) - starts[user]
    shape = (users.num_examples, int(places.max()) + 1)
    scores = {}
    for name, values in zip((_MULTI_CLASS, _CLICK), logits_of_pairs, strict=True):
        scores[name] = np.full(shape, -np.inf, np.float32)
        scores[name][user, places] = values
    # One number a pair, ascending, so that a pair is found by bisection.
    keys = user * len(candidates) + tags

    def listed_only(column: ListValues) -> ListValues:
        wanted = column.row_ids * len(candidates) + column.values
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        is_listed = (keys[found] == wanted) & (column.values >= 0)
        return ListValues(np.where(is_listed, places[found], -1), column.offsets)

    lists = {name: listed_only(users.lists[name]) for name in (f.LABEL_TAGS, f.HISTORY_TAGS)}
    return Snapshots({**users.scalars, **scores}, lists)


def _known_pairs(column: ListValues) -> tuple[np.ndarray, np.ndarray]:
    """Rows and tags, those without the unknown."""
    is_known = column.values >= 0
    return column.row_ids[is_known], column.values[is_known]


def _scorer(click_weight: float, num_candidates: int) -> TagScorer:
    def score(chunk: Snapshots) -> np.ndarray:
        multi_class = chunk.scalars[_MULTI_CLASS]
        candidates = metrics.top_k(multi_class, num_candidates)
        first, click = (
            np.take_along_axis(logits, candidates, axis=1)
            for logits in (multi_class, chunk.scalars[_CLICK])
        )
        return _promoted(multi_class, candidates, mixed(first, click, click_weight))

    return score


def spread_users(snapshots: Snapshots, max_users: int) -> Snapshots:
    """All snapshots, or `max_users` of them at even distances in their canonical order."""
    if snapshots.num_examples <= max_users:
        return snapshots
    return snapshots.take(np.arange(max_users) * snapshots.num_examples // max_users)


def over_chunks(
    function: Callable[[dict[str, Any]], tf.Tensor], snapshots: Snapshots, names: Sequence[str]
) -> np.ndarray:
    """A function of batches of features, over all snapshots.

    Args:
      function: Features -> a tensor whose first dimension runs over users, or over what they have.
      snapshots: At least one.
      names: The features it takes.

    Returns:
      Its results, one chunk after another.
    """
    compiled = tf.function(function, reduce_retracing=True, autograph=False)
    results = []
    for first in range(0, snapshots.num_examples, _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, snapshots.num_examples))
        results.append(compiled(snapshots.take(rows).features(names)).numpy())
    return np.concatenate(results)
