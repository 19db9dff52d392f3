"""The linear path: scores of a linear model of the history in closed form, added to the towers'.

Towers learn little from small logs, where a linear model of tags by tags, EASE
(`trainer.evaluation.ease`), is better and takes seconds. So the towers' scores are added to those
of the best approximation of EASE of rank R, B ~ A T':

    score(u, t) = u . t + b_t + (sum_i log(1 + w_i) A[t_i]) . T_t

over the values t_i of one domain, which counts clicked tags. The score is still one inner product:
the query is [u; path; 1] and a candidate [t; T_t; b_t], so that index and exports do not change,
and a value's contribution to a score is exact. A tag that the log does not have has T_t = 0.

A and T are fitted before the towers, whose loss does not include them: EASE has seen the labels of
training users, so towers trained on top of it would learn to correct scores that other users do not
get (measured: docs/model.md). The state of the towers that is kept is the one that is best together
with the path, which may be the untrained start. The weight of the path is then chosen on validation
users and may be 0 (`trainer.evaluation.path_weight`).
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.features import Domain, FeatureSpec
from trainer.data.snapshots import Snapshots
from trainer.evaluation.ease import choose_ease, deciding_users, ease_memory_bytes
from trainer.evaluation.path_weight import PathTrial, best_weight, try_weights
from trainer.evaluation.tag_rows import counting_domain, domain_rows, log_counts, user_rows
from trainer.model import InterestModel
from trainer.towers.domain_attention import weighted_sum
from trainer.towers.user_fields import domain_values

# Relative variance below which scores differ by rounding alone.
_ROUNDING = 1e-8

_progress = logging.getLogger("tagtower.train")


@dataclasses.dataclass(frozen=True)
class FittedPath:
    """A fitted linear path, before its weight is chosen.

    Attributes:
      domain: Name of the domain whose values it reads.
      history: float32 [num_tags, R], A.
      tags: float32 [num_tags, R], T minus its mean over the tags, scaled so that scores have the
        variance 1 within training users.
      regularization: Regularization of EASE.
    """

    domain: str
    history: np.ndarray
    tags: np.ndarray
    regularization: float

    def scores(self, chunk: Snapshots) -> np.ndarray:
        """Computes scores of all tags for the users of a chunk, float32 [batch, num_tags]."""
        rows = log_counts(domain_rows(chunk, self.domain, len(self.tags)))
        return (rows @ self.history).astype(np.float32) @ self.tags.T


@dataclasses.dataclass(frozen=True)
class LinearPath:
    """Description of a model's linear path; the defaults describe a model without one.

    Attributes:
      domain: Name of the domain whose values it reads; empty: there is no path.
      rank: R, the rank of the approximation.
      regularization: Regularization of EASE.
      weight: Weight in use: logits that a standard deviation of the path's scores within a user
        adds.
      trials: Weights that were tried, with their quality.
      note: Reason why there is no path; else empty.
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
    """Layer that computes `sum_i log(1 + w_i) A[t_i]` over the values of a domain.

    Args:
      domain: The domain.
      vectors: float [ids, R], A; zeros for ids out of the tags' vocabulary.
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
        """Embeds histories of some users.

        Args:
          features: Ids of the domain [batch, None] and their weights by name, as `tf.RaggedTensor`
            or `tf.SparseTensor`.

        Returns:
          float [batch, R], embeddings of the histories.
        """
        values, weights = domain_values(features, self.domain, use_weights=True)
        logarithms = tf.math.log1p(weights.flat_values)[:, tf.newaxis]  # type: ignore[union-attr]
        return tf.squeeze(weighted_sum(self.vectors, values, logarithms), axis=1)


def fit_path(
    config: ModelConfig,
    spec: FeatureSpec,
    num_tags: int,
    train: Snapshots,
    validation: Snapshots,
    room_mb: float | None = None,
) -> tuple[FittedPath | None, str]:
    """Fits the linear path to training users; its regularization is chosen on validation users.

    Args:
      config: Configuration of the model.
      spec: The feature specification.
      num_tags: Number of tags.
      train: Training snapshots.
      validation: One snapshot for each validation user.
      room_mb: Memory in MB that a bound of the whole training leaves; None: no bound.

    Returns:
      The fitted path and an empty text, or None and the reason why there is no path.
    """
    if config.linear_path == "none":
        return None, "`model.linear_path` is none"
    domain = counting_domain(spec)
    if domain is None:
        return None, "no domain of `features` counts the tags of clicks"
    counts = user_rows(train, num_tags, domain)
    if not counts.nnz:
        return None, "no training user clicked a known tag"
    rank = min(config.linear_path_dim, *counts.shape)
    mbytes = ease_memory_bytes(counts.shape[0], num_tags, counts.nnz, rank) / 1e6
    bounds = {"model.linear_path_max_memory_mb": config.linear_path_max_memory_mb}
    if room_mb is not None:
        bounds["training.max_memory_mb"] = int(room_mb)
    key = min(bounds, key=lambda name: bounds[name])
    if mbytes > bounds[key]:
        return None, (
            f"{counts.shape[0]:,} training users by {num_tags:,} tags would take about "
            f"{mbytes:,.0f} MB (`{key}` leaves {bounds[key]:,})"
        )
    rows = log_counts(counts)
    ease = choose_ease(rows, validation)
    history, tags = ease.factorize(rank, rows)
    # Centring changes no order, and with it a tag that training never saw, whose vector is 0, is an
    # average one.
    centred = tags - tags.mean(axis=0)
    embedded = np.asarray(rows @ history.astype(np.float64))
    variance, size = (_mean_square(embedded, vectors) for vectors in (centred, tags))
    if variance <= _ROUNDING * size:
        return None, "it scores every tag alike"
    centred /= np.float32(np.sqrt(variance))
    return FittedPath(domain, history, centred, ease.regularization), ""


def _mean_square(users: np.ndarray, tags: np.ndarray) -> float:
    """Computes the mean square of all scores of users float [n, R] and tags float [num_tags, R]."""
    product = tags.astype(np.float64).T @ tags / len(tags)
    return float(np.einsum("ur,rs,us->u", users, product, users).mean())


def add_linear_path(
    model: InterestModel, path: FittedPath | None, note: str, validation: Snapshots
) -> LinearPath:
    """Chooses the weight of the path and adds it to a trained model.

    Args:
      model: Trained model without a path; unchanged where no weight above 0 helps.
      path: Fitted path of `fit_path`, or None.
      note: Reason of `fit_path` why there is no path.
      validation: One snapshot for each validation user.

    Returns:
      Description of the path, with the chosen weight.
    """
    decided = LinearPath(note=note) if path is None else _decide(model, path, validation)
    if path is not None and decided.domain:
        _add(model, path, decided.weight)
    _progress.info("linear path: %s", decided)
    return decided


def _decide(model: InterestModel, path: FittedPath, validation: Snapshots) -> LinearPath:
    embed = tf.function(model.query_embeddings, reduce_retracing=True, autograph=False)
    candidates = model.candidate_embeddings().numpy().T

    def logits(chunk: Snapshots) -> np.ndarray:
        return embed(chunk.features(model.spec.raw_names)).numpy() @ candidates

    users = deciding_users(validation, model.num_tags)
    trials = try_weights(logits, path.scores, users, model.num_tags)
    weight = best_weight(trials)
    decided = LinearPath(
        path.domain, path.tags.shape[1], path.regularization, weight, tuple(trials)
    )
    if weight:
        return decided
    return dataclasses.replace(decided, domain="", rank=0, note="no weight improves the ranking")


def _add(model: InterestModel, path: FittedPath, weight: float) -> None:
    domain = next(domain for domain in model.spec.domains if domain.name == path.domain)
    # Tag vectors of both parts get the same mean square, so that an index compresses both alike.
    embeddings = model.tag_tower.vectors().embeddings.numpy()
    balance = np.sqrt(np.mean(embeddings**2) / np.mean(path.tags**2)) or 1.0
    num_ids, rank = model.vocabulary_sizes[domain.vocabulary_name], path.tags.shape[1]
    vectors = np.zeros((num_ids, rank), np.float32)
    vectors[: len(path.history)] = path.history * (weight / balance)
    model.add_path(HistoryPath(domain, vectors, name="history_path"), path.tags * balance)
