"""The second stage, which orders the tags that retrieval by the multi-class score proposes.

The click head's logit of an item with one tag is an inner product with the same query as the
multi-class logit, so a mix of both is one more table of tag vectors:

    ranking = (1 - w) * candidate_embeddings + w * click_embeddings

w = 0 is the multi-class score, w = 1 the click head. A servable takes the N tags with the highest
multi-class score and orders them by `query . ranking`. With memory (`trainer.contract.memory`) it
takes the tags of the user's own history as well, and orders all of them by the mixture of their
shares there and of the model's p, the softmax of `query . ranking` over the N.

This module computes the same in numpy, for validation, which chooses w and memory, and for the
Evaluator. `serving.servable.retrieval` builds the servable.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special

from trainer.config import RankingConfig
from trainer.contract import features as f
from trainer.contract.memory import DomainMemory, Remembered, memory_domains
from trainer.contract.metric_registry import MEAN_NDCG, NDCG, NOVEL
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import TagScorer, evaluate
from trainer.evaluation.memory_choice import (
    METRICS,
    MemoryTrial,
    MemoryUsers,
    choose_memory,
    memory_metric,
)
from trainer.evaluation.path_weight import mean_defined
from trainer.evaluation.shortlists import (
    CLICK,
    MULTI_CLASS,
    known_pairs,
    shares_of,
    shortlists,
    total_of,
)
from trainer.model import InterestModel

# w of `ranking.score: mix`, equal parts; `validation` chooses the weight that suits a log.
MIX_CLICK_WEIGHT = 0.5
# Weights w that are tried on validation users.
CLICK_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# Number of validation users on whom the weights are tried: enough to tell weights apart.
MAX_USERS = 5_000
_CHUNK = 512
# Bound of a log share, which is large where the click head puts a tag far above all candidates.
_MAX_LOG_SHARE = 700.0


@dataclasses.dataclass(frozen=True)
class WeightTrial:
    """Quality of a weight on validation users.

    Attributes:
      click_weight: w, the weight that was tried.
      quality: Value of the deciding metric; None: undefined, as no user has a truth.
    """

    click_weight: float
    quality: float | None


@dataclasses.dataclass(frozen=True)
class SecondStage:
    """Choices made after training; the defaults describe a model without a second stage.

    Attributes:
      click_weight: w, the weight that serving uses.
      mix_weight: Best w above 0 and below 1 on validation users; None: there is no click head to
        mix with.
      num_candidates: N, number of candidates.
      metric: Name of the deciding metric.
      trials: Weights that were tried, without memory; empty without a click head.
      memory: Memory that serving uses; empty: none.
      memory_metric: Name of the metric that decided about memory; empty if none was tried.
      memory_trials: Memories that were tried, with `click_weight`.
    """

    click_weight: float = 0.0
    mix_weight: float | None = None
    num_candidates: int = RankingConfig.num_candidates
    metric: str = ""
    trials: tuple[WeightTrial, ...] = ()
    memory: tuple[DomainMemory, ...] = ()
    memory_metric: str = ""
    memory_trials: tuple[MemoryTrial, ...] = ()

    def candidates_among(self, num_tags: int, k: int = 1) -> int:
        """Returns N where a model has fewer tags than it, or has to answer more.

        Args:
          num_tags: Number of tags that can be proposed.
          k: Number of tags that are returned, at most `num_tags`.
        """
        return min(max(self.num_candidates, k), num_tags)


def mixed(multi_class: Any, click: Any, click_weight: float) -> Any:
    """Computes `(1 - w) * multi_class + w * click` of logits or tag vectors, tensors or arrays."""
    return (1.0 - click_weight) * multi_class + click_weight * click


def two_stage_scores(
    multi_class: np.ndarray,
    queries: np.ndarray,
    ranking: np.ndarray,
    num_candidates: int,
    remembered: Remembered | None = None,
) -> np.ndarray:
    """Computes scores in the order of two stages, for `trainer.evaluation.figures.evaluate`.

    First come the N best tags by the multi-class logit, in the order of `query . ranking` (equal
    ones in that of the multi-class logit); then all others in the order of the multi-class logit.
    With memory the tags of the history are among the first tags, and p' orders these (equal ones by
    id). Up to the N-th place a servable with an exact index returns the same order. Only the order
    of the scores means anything.

    Args:
      multi_class: float [batch, num_tags], multi-class logits.
      queries: float [batch, dimension], query embeddings.
      ranking: float [num_tags, dimension], ranking embeddings.
      num_candidates: N, number of candidates; all tags where there are fewer.
      remembered: Memory's part of the mixture for the users; None: there is no memory.

    Returns:
      float64 [batch, num_tags], scores.
    """
    candidates = metrics.top_k(multi_class, num_candidates)
    if remembered is None:
        logits = np.einsum("bd,bnd->bn", queries, ranking[candidates])
        return _promoted(multi_class, candidates, logits)
    rows, tags, shares = remembered.unite(candidates, multi_class.shape[1])
    logits = np.einsum("nd,nd->n", queries[rows], ranking[tags]).astype(np.float64)
    log_shares = logits - log_normalizer(logits, candidates.shape)[rows]
    scores = remembered.log_mixture(log_shares, rows, shares)
    # All other tags get scores at least 1 below the lowest of these.
    lowest = np.full(len(candidates), np.inf)
    np.minimum.at(lowest, rows, scores)
    behind = lowest - 1 - multi_class.max(axis=1)
    found = multi_class.astype(np.float64) + behind[:, np.newaxis]
    found[rows, tags] = scores
    return found


def log_normalizer(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Computes the logarithm of the softmax's denominator over the N candidates of each user.

    Args:
      logits: float64 [n], logits of the pairs of `Remembered.unite`, the candidates first.
      shape: Number of users, and N.

    Returns:
      float64 [batch], logarithms.
    """
    return special.logsumexp(logits[: shape[0] * shape[1]].reshape(shape), axis=1)


def _promoted(multi_class: np.ndarray, candidates: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Turns logits [batch, n] into scores, with candidates [batch, N] first by their own logits."""
    order = np.argsort(-logits, axis=1, kind="stable")
    scores = multi_class.astype(np.float64)
    # Scores above the best logit that differ by whole numbers, so that no two of them are equal.
    places = np.arange(candidates.shape[1], 0, -1) + scores.max(axis=1, keepdims=True)
    np.put_along_axis(scores, np.take_along_axis(candidates, order, axis=1), places, axis=1)
    return scores


def best_weight(trials: Sequence[WeightTrial]) -> float | None:
    """Returns the weight with the highest quality, the smallest of equally good ones.

    Args:
      trials: Trials in any order.

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
    """Tries weights and memories on validation users, and chooses as configured.

    Args:
      model: The trained model.
      validation: One snapshot for each validation user.
      config: Configuration of the choice; without a click loss w is 0 in any case.
      weights: Weights that are tried; the best of those between 0 and 1 is `mix_weight`.

    Returns:
      The choices. Where no validation user has a truth, `ranking.score: validation` takes w = 0.
    """
    metric = model.training_config.early_stopping_metric
    stage = SecondStage(num_candidates=config.num_candidates, metric=metric)
    has_clicks = model.training_config.click_objective is not None
    domains = memory_domains(model.spec) if config.memory == "validation" else ()
    if not (has_clicks or domains):
        return stage
    users = spread_users(validation, MAX_USERS)
    # The towers run and all tags are scored only once: every weight orders the same short lists.
    lists = shortlists(
        over_chunks(model.query_embeddings, users, model.spec.raw_names),
        model.candidate_embeddings().numpy(),
        model.click_candidate_embeddings().numpy(),
        users,
        config.num_candidates,
        _looks_at_novel(metric),
        domains,
    )
    if has_clicks:
        trials = _try_weights(lists, config.num_candidates, metric, sorted(weights))
        chosen = {
            "multi_class": 0.0,
            "click": 1.0,
            "mix": MIX_CLICK_WEIGHT,
            "validation": best_weight(trials) or 0.0,
        }[config.score]
        mixes = [trial for trial in trials if 0 < trial.click_weight < 1]
        stage = dataclasses.replace(
            stage, click_weight=chosen, mix_weight=best_weight(mixes), trials=tuple(trials)
        )
    if not domains:
        return stage
    is_free = has_clicks and config.score == "validation" and metric in METRICS
    return _choose_memory(lists, stage, domains, sorted(weights) if is_free else ())


def _choose_memory(
    lists: Snapshots, stage: SecondStage, domains: Sequence[str], weights: Sequence[float]
) -> SecondStage:
    """Chooses memory, and another weight if that is better with memory."""
    metric = memory_metric(stage.metric)

    def with_memory(click_weight: float) -> tuple[SecondStage, float]:
        users = _memory_users(lists, stage.num_candidates, click_weight, domains)
        memory, trials = choose_memory(users, domains, metric)
        quality = max((t.quality for t in trials if t.quality is not None), default=0.0)
        found = dataclasses.replace(
            stage,
            click_weight=click_weight,
            memory=memory,
            memory_metric=metric,
            memory_trials=tuple(trials),
        )
        return found, quality

    # w was chosen without memory, whose effect it may replace: w = 0 is tried as well.
    starts = sorted({stage.click_weight, 0.0} if weights else {stage.click_weight})
    found, quality = max(map(with_memory, starts), key=lambda pair: pair[1])
    if not found.memory:
        return found
    trials = [
        WeightTrial(
            weight,
            _memory_users(lists, stage.num_candidates, weight, domains).quality(
                found.memory, metric
            ),
        )
        for weight in weights
    ]
    best = best_weight(trials)
    if best is None or best == found.click_weight:
        return found
    again, quality_again = with_memory(best)
    return again if quality_again > quality else found


def _memory_users(
    lists: Snapshots, num_candidates: int, click_weight: float, domains: Sequence[str]
) -> MemoryUsers:
    """Converts short lists to the arrays from which memory is chosen."""
    multi_class, click = lists.scalars[MULTI_CLASS], lists.scalars[CLICK]
    is_listed = multi_class > -np.inf
    proposed = np.zeros(multi_class.shape, bool)
    np.put_along_axis(proposed, metrics.top_k(multi_class, num_candidates), True, axis=1)
    logits = mixed(
        np.where(is_listed, multi_class, 0.0), np.where(is_listed, click, 0.0), click_weight
    ).astype(np.float64)
    normalizer = special.logsumexp(np.where(proposed, logits, -np.inf), axis=1, keepdims=True)
    labels = lists.lists[f.LABEL_TAGS]
    truth = np.zeros(multi_class.shape, bool)
    truth[known_pairs(labels)] = True
    is_unknown = labels.values < 0
    return MemoryUsers(
        shares=np.where(is_listed, np.exp(np.minimum(logits - normalizer, _MAX_LOG_SHARE)), 0.0),
        is_proposed=proposed,
        rest_order=multi_class.astype(np.float64),
        domain_shares={name: lists.scalars[shares_of(name)] for name in domains},
        totals={name: lists.scalars[total_of(name)] for name in domains},
        truth=truth,
        num_relevant=truth.sum(axis=1)
        + np.bincount(labels.row_ids[is_unknown], minlength=len(truth)),
    )


def _try_weights(
    lists: Snapshots, num_candidates: int, metric: str, weights: Sequence[float]
) -> list[WeightTrial]:
    num_listed = lists.scalars[MULTI_CLASS].shape[1]
    trials = []
    for weight in weights:
        figures = evaluate(
            _scorer(weight, num_candidates),
            lists,
            num_listed,
            with_novel=_looks_at_novel(metric),
            with_slices=False,
        )
        figures[MEAN_NDCG] = mean_defined([figures[NDCG.at(10)], figures[NDCG.at(10, NOVEL)]])
        # None for metrics of clicks on items, which do not depend on the order of tags.
        trials.append(WeightTrial(weight, figures.get(metric)))
    return trials


def _looks_at_novel(metric: str) -> bool:
    return metric == MEAN_NDCG or metric.startswith(NOVEL)


def _scorer(click_weight: float, num_candidates: int) -> TagScorer:
    def score(chunk: Snapshots) -> np.ndarray:
        multi_class = chunk.scalars[MULTI_CLASS]
        candidates = metrics.top_k(multi_class, num_candidates)
        first, click = (
            np.take_along_axis(logits, candidates, axis=1)
            for logits in (multi_class, chunk.scalars[CLICK])
        )
        return _promoted(multi_class, candidates, mixed(first, click, click_weight))

    return score


def spread_users(snapshots: Snapshots, max_users: int) -> Snapshots:
    """Returns all snapshots, or `max_users` of them at even distances in canonical order."""
    if snapshots.num_examples <= max_users:
        return snapshots
    return snapshots.take(np.arange(max_users) * snapshots.num_examples // max_users)


def over_chunks(
    function: Callable[[dict[str, Any]], tf.Tensor], snapshots: Snapshots, names: Sequence[str]
) -> np.ndarray:
    """Applies a function of feature batches to all snapshots, chunk by chunk.

    Args:
      function: Function from features to a tensor whose first dimension runs over users, or over
        their impressions.
      snapshots: The snapshots, at least one.
      names: Names of the features that the function takes.

    Returns:
      The concatenated results of all chunks.
    """
    compiled = tf.function(function, reduce_retracing=True, autograph=False)
    results = []
    for first in range(0, snapshots.num_examples, _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, snapshots.num_examples))
        results.append(compiled(snapshots.take(rows).features(names)).numpy())
    return np.concatenate(results)
