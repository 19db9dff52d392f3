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
from trainer.evaluation import TagScorer, evaluate
from trainer.model import InterestModel
from trainer.snapshots import Snapshots

# Tried on validation users.
CLICK_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# That look at one weight after another: enough to tell weights apart.
MAX_USERS = 5_000
_CHUNK = 512
_MAX_SCORES = 2**25  # of a chunk, users times tags
_QUERY_EMBEDDINGS = "query_embeddings"


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
    # The towers run once, and every weight finds their vectors beside the labels.
    queries = over_chunks(model.query_embeddings, users, model.spec.raw_names)
    users = Snapshots(
        {**users.scalars, _QUERY_EMBEDDINGS: queries},
        {name: users.lists[name] for name in (f.LABEL_TAGS, f.HISTORY_TAGS)},
    )
    candidates = model.candidate_embeddings().numpy()
    clicks = model.click_candidate_embeddings().numpy()
    trials = []
    for weight in weights:
        ranking = mixed(candidates, clicks, weight)
        figures = evaluate(
            _scorer(candidates, ranking, num_candidates),
            users,
            model.num_tags,
            with_novel=metric.startswith("novel_"),
            with_slices=False,
            chunk_size=chunk_size(model.num_tags),
        )
        # How tags are ordered changes nothing about clicks on items.
        trials.append(WeightTrial(weight, figures.get(metric)))
    return trials


def _scorer(candidates: np.ndarray, ranking: np.ndarray, num_candidates: int) -> TagScorer:
    def score(chunk: Snapshots) -> np.ndarray:
        queries = chunk.scalars[_QUERY_EMBEDDINGS]
        return two_stage_scores(queries @ candidates.T, queries, ranking, num_candidates)

    return score


def spread_users(snapshots: Snapshots, max_users: int) -> Snapshots:
    """All snapshots, or `max_users` of them at even distances in their canonical order."""
    if snapshots.num_examples <= max_users:
        return snapshots
    return snapshots.take(np.arange(max_users) * snapshots.num_examples // max_users)


def chunk_size(num_tags: int) -> int:
    """Users whose scores of all tags are held at once."""
    return max(1, min(_CHUNK, _MAX_SCORES // num_tags))


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
