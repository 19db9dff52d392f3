"""The fields of users in the served graph: all lists, heads and fields in one computation.

It equals `trainer.towers.user_fields.UserFields`, which training uses and which pools list by list.
A value's attention score, q_h . relu(W_h t + b), depends on its embedding alone, so here it is
computed once for each row of the tables, when the towers are saved, and a request looks it up.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.contract.features import Domain, ListFeature
from trainer.saved.user_values import Segments, UserValues, weighted_rows
from trainer.towers.user_fields import UserFields, log_name, total_name

# Rows of a table that are scored at once.
_CHUNK = 65_536


class Fields(NamedTuple):
    """The fields of some users.

    Attributes:
      vectors: float [batch, K, H, E], vectors of the fields.
      mask: bool [batch, K], whether each field is present.
      attention: float [n], attention to each value of `UserValues`: the mean over heads, and over
        the fields of its list; sums to 1 over the values of a user's list.
    """

    vectors: tf.Tensor
    mask: tf.Tensor
    attention: tf.Tensor


class PooledFields(tf.Module):
    """Makes the fields of a trained tower.

    Args:
      fields: The layer that made the fields in training.
    """

    def __init__(self, fields: UserFields):
        super().__init__(name="pooled_fields")
        spec, config = fields.spec, fields.config
        self._num_singles, self._num_lists = len(spec.singles), len(spec.lists)
        self._first_domain = self._num_lists - len(spec.domains)
        self._use_weights = config.use_domain_weights
        self._has_logarithms = config.log_count_fields and bool(spec.domains)
        self._num_ways = 2 if self._has_logarithms else 1
        self._num_heads = config.effective_heads
        self._size = config.embedding_dim
        self._is_attention = config.effective_pooling == "attention"
        singles = [fields.all_rows(feature.name) for feature in spec.singles]
        self._first_single = first_rows(singles)
        self._singles = stacked_variable(singles, "singles")
        lists = [fields.all_rows(feature.name) for feature in spec.lists]
        self._first_row = first_rows(lists)
        self._lists = stacked_variable(lists, "lists")
        self._scores: tf.Variable | None = None
        if self._is_attention:
            scores = [_scores(fields, *pair) for pair in zip(spec.lists, lists, strict=True)]
            self._scores = stacked_variable(scores, "scores")
        self._totals = None
        if config.use_domain_totals and spec.domains:
            rows = [fields.all_rows(total_name(domain)) for domain in spec.domains]
            self._totals = tf.constant(np.concatenate(rows), name="totals")
        # Place of each field among the pooled ones, and its list: a profile feature that is a list
        # has no field of logarithms.
        kept = [
            (place * self._num_ways + way, place)
            for place, listed in enumerate(spec.lists)
            for way in range(self._num_ways if isinstance(listed, Domain) else 1)
        ]
        self._kept, self._list_of_field = (
            (list(column) for column in zip(*kept, strict=True)) if kept else ([], [])
        )

    def __call__(self, values: UserValues) -> Fields:
        """Makes the fields of some users.

        Args:
          values: Ids of the users' features.

        Returns:
          The fields, in the order of `UserFields`.
        """
        num_users = values.num_users
        vectors, present = [], []
        attention = values.weights  # there are no values where there are no lists
        if self._singles is not None:
            rows = tf.gather(self._singles, values.singles + self._first_single)
            vectors.append(self._for_each_head(rows))
            present.append(tf.fill([num_users, self._num_singles], True))
        if self._lists is not None:
            segments = Segments.of(values, self._num_lists)
            pooled, attention = self._pool(values, segments)
            sums = segments.sum(tf.stack([tf.ones_like(values.weights), values.weights], axis=1))
            is_there = segments.by_user(sums[:, 0]) > 0
            shape = [-1, self._num_lists * self._num_ways, self._num_heads, self._size]
            pooled = tf.reshape(pooled, shape)
            if len(self._kept) < shape[1]:
                pooled = tf.gather(pooled, self._kept, axis=1)
            vectors.append(pooled)
            present.append(tf.gather(is_there, self._list_of_field, axis=1))
            if self._totals is not None:
                total = sums[:, 1] if self._use_weights else tf.cast(sums[:, 0] > 0, tf.float32)
                lengths = segments.by_user(tf.math.log1p(total) / 5.0)[:, self._first_domain :]
                vectors.append(self._for_each_head(lengths[:, :, tf.newaxis] * self._totals))
                present.append(is_there[:, self._first_domain :])
        return Fields(tf.concat(vectors, axis=1), tf.concat(present, axis=1), attention)

    def _pool(self, values: UserValues, segments: Segments) -> tuple[tf.Tensor, tf.Tensor]:
        """Pools the values of every list, by multiplicity and by its logarithm.

        Returns:
          float [batch * L, F H, E], weighted means, zeros for an empty list, where F is 2 with
          `log_count_fields`, else 1; and the attention to each value, float [n].
        """
        rows = values.ids + tf.gather(self._first_row, values.lists)
        counts = values.weights if self._use_weights else tf.ones_like(values.weights)
        ways = [counts]
        if self._has_logarithms:
            ways.append(tf.math.log1p(counts) if self._use_weights else counts)
        coefficients = tf.stack(ways, axis=1)[:, :, tf.newaxis]
        if self._scores is not None:
            scores = tf.gather(self._scores, rows)
            scores = tf.reshape(scores, [-1, self._num_ways, self._num_heads])
            scores += tf.math.log(coefficients)
            highest = tf.math.unsorted_segment_max(scores, segments.ids, segments.num)
            coefficients = tf.exp(scores - tf.gather(highest, segments.ids))
        # Shares before sums: a sum of weights may exceed float32, a weighted mean may not.
        shares = coefficients / tf.gather(segments.sum(coefficients), segments.ids)
        places = tf.stack([segments.ids, rows], axis=1)
        columns = tf.unstack(
            tf.reshape(shares, [-1, self._num_ways * self._num_heads]),
            num=self._num_ways * self._num_heads,
            axis=1,
        )
        pooled = [weighted_rows(places, share, segments.num, self._lists) for share in columns]
        by_way = tf.reduce_mean(shares, axis=2)
        attention = tf.reduce_mean(by_way, axis=1)
        if self._first_domain and self._has_logarithms:
            attention = tf.where(values.lists >= self._first_domain, attention, by_way[:, 0])
        return tf.stack(pooled, axis=1), attention

    def _for_each_head(self, vectors: tf.Tensor) -> tf.Tensor:
        """Repeats vectors [batch, K, E] for each head, [batch, K, H, E]."""
        return tf.tile(vectors[:, :, tf.newaxis], [1, 1, self._num_heads, 1])


def first_rows(tables: list[np.ndarray]) -> np.ndarray:
    """Returns the place of the first row of each table when they stand one below another."""
    return np.cumsum([0, *map(len, tables)])[: len(tables)].astype(np.int64)


def stacked_variable(tables: list[np.ndarray], name: str) -> tf.Variable | None:
    """Returns tables one below another as a variable; None: there are none."""
    if not tables:
        return None
    return tf.Variable(np.concatenate(tables), trainable=False, name=name)


def _scores(fields: UserFields, feature: ListFeature, rows: np.ndarray) -> np.ndarray:
    """Computes the attention scores of a list's vocabulary.

    Args:
      fields: The trained layer.
      feature: The list.
      rows: float32 [V, E], embeddings of the vocabulary.

    Returns:
      float32 [V, F H]; scores of a profile feature, which has no logarithms, stand twice.
    """
    names = [feature.name]
    if fields.config.log_count_fields and fields.spec.domains:
        names.append(log_name(feature) if isinstance(feature, Domain) else feature.name)
    layers = [fields.intra_attention[name] for name in names]
    chunks = [
        np.concatenate([layer.scores(part, fields.queries).numpy() for layer in layers], axis=1)
        for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK))
    ]
    return np.concatenate(chunks)
