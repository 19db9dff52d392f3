"""The linear path: what a history says of the tags in closed form, beside the towers.

Small logs teach a tower little, and a linear model of tags by tags (`trainer.ease`) that takes
seconds is ahead of it. So the towers' scores are added to those of EASE's best approximation of
rank R, B ~ A T':

    score(u, t) = u . t + b_t + (sum_i log(1 + w_i) A[t_i]) . T_t

over the values t_i of one domain, which counts clicked tags. It stays one inner product: the
query is [u; path; 1] and a candidate [t; T_t; b_t], so that index and exports are as they were,
and a value's part of a score is exact. A tag that the log does not know has T_t = 0.

A and T are fitted after the towers, whose training does not see them: EASE has seen the labels of
training users, so towers that are trained beside it learn to correct an answer that other users do
not get (measured: docs/model.md). How much the path counts is chosen on validation users, 0
included, so that it can only add to the towers as they are.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import features as f
from trainer import metrics
from trainer.domain_attention import weighted_sum
from trainer.ease import choose_ease, deciding_users, ease_memory_bytes
from trainer.evaluation import users_at_once
from trainer.features import Domain
from trainer.model import InterestModel
from trainer.shortlists import known_pairs
from trainer.snapshots import Snapshots
from trainer.tag_rows import counting_domain, domain_rows, log_counts, user_rows
from trainer.user_fields import domain_values

# Tried on validation users: what a standard deviation of the path's scores within a user adds to
# the logits.
WEIGHTS = (0.0, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0, 16.0)
_CUT = 10

_progress = logging.getLogger("tagtower.train")


@dataclasses.dataclass(frozen=True)
class PathTrial:
    """One weight on validation users.

    Attributes:
      weight: Tried.
      quality: Mean of NDCG@10 and novel NDCG@10, as far as they are defined; None: neither is.
    """

    weight: float
    quality: float | None


@dataclasses.dataclass(frozen=True)
class LinearPath:
    """What was decided after the fit; the defaults are those of a model without a path.

    Attributes:
      domain: Whose values it looks at; empty: there is no path.
      rank: R.
      regularization: EASE's.
      weight: As served: logits that a standard deviation of its scores within a user adds.
      trials: The weights tried.
      note: Why there is none; else empty.
    """

    domain: str = ""
    rank: int = 0
    regularization: float | None = None
    weight: float = 0.0
    trials: tuple[PathTrial, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        if not self.domain:
            return f"left out: {self.note}"
        return (
            f"rank {self.rank} over {self.domain}, regularization {self.regularization:.3g}, "
            f"weight {self.weight:g}"
        )


class HistoryPath(tf_keras.layers.Layer):
    """`sum_i log(1 + w_i) A[t_i]` over the values of a domain.

    Args:
      domain: The domain.
      vectors: float [ids, R], A; ids out of the tags' vocabulary have zeros.
    """

    def __init__(self, domain: Domain, vectors: np.ndarray, **kwargs: Any):
        super().__init__(**kwargs)
        self.domain = domain
        self.vectors = self.add_weight(
            "vectors",
            vectors.shape,
            initializer=tf_keras.initializers.Constant(vectors),
            trainable=False,
        )

    def call(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Embeds histories, float [batch, R].

        Args:
          features: Of the domain, ids [batch, None] and weights, as `tf.RaggedTensor` or
            `tf.SparseTensor`.
        """
        values, weights = domain_values(features, self.domain, use_weights=True)
        logarithms = tf.math.log1p(weights.flat_values)[:, tf.newaxis]  # type: ignore[union-attr]
        return tf.squeeze(weighted_sum(self.vectors, values, logarithms), axis=1)


def add_linear_path(model: InterestModel, train: Snapshots, validation: Snapshots) -> LinearPath:
    """Fits the path to the training users, chooses its weight, and adds it to a trained model.

    Args:
      model: Trained, without a path; left as it is where there is none.
      train: Training snapshots.
      validation: One snapshot a validation user.

    Returns:
      What was decided.
    """
    path = _add_linear_path(model, train, validation)
    _progress.info("linear path: %s", path)
    return path


def _add_linear_path(model: InterestModel, train: Snapshots, validation: Snapshots) -> LinearPath:
    config = model.model_config
    if config.linear_path == "none":
        return LinearPath(note="`model.linear_path` is none")
    name = counting_domain(model.spec)
    if name is None:
        return LinearPath(note="no domain of `features` counts the tags of clicks")
    counts = user_rows(train, model.num_tags, name)
    if not counts.nnz:
        return LinearPath(note="no training user clicked a known tag")
    mbytes = ease_memory_bytes(counts.shape[0], counts.shape[1], counts.nnz) / 1e6
    if mbytes > config.linear_path_max_memory_mb:
        return LinearPath(
            note=f"{counts.shape[0]:,} training users by {model.num_tags:,} tags would take about "
            f"{mbytes:,.0f} MB (`model.linear_path_max_memory_mb` is "
            f"{config.linear_path_max_memory_mb})"
        )
    rows = log_counts(counts)
    ease = choose_ease(rows, validation)
    history, tags = ease.factorize(min(config.linear_path_dim, *rows.shape), rows)
    scale = _scale(rows, history, tags)
    trials = try_weights(model, deciding_users(validation), name, history, scale * tags)
    weight = best_weight(trials)
    found = LinearPath(name, tags.shape[1], ease.regularization, weight, tuple(trials))
    if not weight:
        return dataclasses.replace(found, domain="", rank=0, note="no weight helps")
    domain = next(domain for domain in model.spec.domains if domain.name == name)
    # Tag vectors of both parts of one length, so that an index compresses both alike.
    length = float(tf.sqrt(tf.reduce_mean(model.tag_tower.vectors().embeddings ** 2)))
    balance = (length or 1.0) / float(np.sqrt(np.mean(tags**2)))
    vectors = np.zeros((model.vocabulary_sizes[domain.vocabulary_name], tags.shape[1]), np.float32)
    vectors[: len(history)] = history * (weight * scale / balance)
    model.add_path(HistoryPath(domain, vectors, name="history_path"), tags * balance)
    return found


def _scale(rows: Any, history: np.ndarray, tags: np.ndarray) -> float:
    """What makes the mean variance of the path's scores within a user 1."""
    # The variance over tags of x . T_t is x' C x, with the covariance C of the tag vectors.
    embedded = np.asarray(rows @ history.astype(np.float64))
    variances = np.einsum(
        "ur,rs,us->u", embedded, np.atleast_2d(np.cov(tags.T, bias=True)), embedded
    )
    return float(1 / np.sqrt(variances.mean())) if variances.mean() > 0 else 1.0


def try_weights(
    model: InterestModel,
    users: Snapshots,
    domain: str,
    history: np.ndarray,
    tags: np.ndarray,
    weights: Sequence[float] = WEIGHTS,
) -> list[PathTrial]:
    """Tries weights on validation users.

    Args:
      model: Trained, without a path.
      users: One snapshot a user.
      domain: Whose values the path looks at.
      history: float [num_tags, R], A.
      tags: float [num_tags, R], T.
      weights: The weights tried.

    Returns:
      The weights in their order, with the mean of NDCG@10 on all truth and on novel truth.
    """
    embed = tf.function(model.query_embeddings, reduce_retracing=True, autograph=False)
    candidates = model.candidate_embeddings().numpy()
    size = users_at_once(model.num_tags)
    by_user: dict[tuple[float, str], list[np.ndarray]] = {}
    for first in range(0, users.num_examples, size):
        chunk = users.take(np.arange(first, min(first + size, users.num_examples)))
        logits = embed(chunk.features(model.spec.raw_names)).numpy() @ candidates.T
        path = log_counts(domain_rows(chunk, domain, model.num_tags)) @ history @ tags.T
        known, truth = (
            _members(chunk, name, model.num_tags) for name in (f.HISTORY_TAGS, f.LABEL_TAGS)
        )
        unknown = np.bincount(
            chunk.lists[f.LABEL_TAGS].row_ids[chunk.lists[f.LABEL_TAGS].values < 0],
            minlength=chunk.num_examples,
        )
        for weight in weights:
            scores = logits + weight * path
            lists = {
                "all": (scores, truth),
                "novel": (np.where(known, -np.inf, scores), truth & ~known),
            }
            for name, (ranked, relevant) in lists.items():
                hits = np.take_along_axis(relevant, metrics.top_k(ranked, _CUT), axis=1)
                ndcg = metrics.ndcg_at(hits, relevant.sum(axis=1) + unknown, _CUT)
                by_user.setdefault((weight, name), []).append(ndcg)

    def quality(weight: float) -> float | None:
        means = [metrics.mean_defined(np.concatenate(by_user[weight, n])) for n in ("all", "novel")]
        defined = [mean for mean in means if not np.isnan(mean)]
        return float(np.mean(defined)) if defined else None

    return [PathTrial(weight, quality(weight)) for weight in weights]


def _members(chunk: Snapshots, name: str, num_tags: int) -> np.ndarray:
    members = np.zeros((chunk.num_examples, num_tags), bool)
    members[known_pairs(chunk.lists[name])] = True
    return members


def best_weight(trials: Sequence[PathTrial]) -> float:
    """The weight of the highest quality, the smallest of equally good ones; 0: none has any."""
    defined = [(-trial.quality, trial.weight) for trial in trials if trial.quality is not None]
    return min(defined)[1] if defined else 0.0
